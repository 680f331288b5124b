//go:build killpoints

package killpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Variable is the environment variable that arms a point: "after-apply:3" kills at the third time it is reached.
const Variable = "MQTT_KILLPOINT"

//nolint:gochecknoglobals // the points are all over the program, and it dies once
var (
	armedPoint, armedTime = arm(os.Getenv(Variable))
	reached               atomic.Int64
)

// Reached kills the process by SIGKILL if the point is the armed one and its time has come. It does not return then.
func Reached(point Point) {
	if point != armedPoint || reached.Add(1) != armedTime {
		return
	}
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill() //nolint:errcheck // what could be done about it
	}
	select {} // until the signal is delivered
}

// arm panics on what names no point: a test that kills nobody would pass for the wrong reason.
func arm(text string) (Point, int64) {
	if text == "" {
		return "", 0
	}
	name, count, _ := strings.Cut(text, ":")
	times, err := strconv.ParseInt(count, 10, 64)
	if err != nil || times < 1 || !slices.Contains(Points(), Point(name)) {
		panic(fmt.Sprintf("%s: %q is not a point and a count, such as %s:3", Variable, text, AfterApply))
	}
	return Point(name), times
}
