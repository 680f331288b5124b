// Steps reaches a point five times and says so each time.
package main

import (
	"fmt"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
)

func main() {
	for range 5 {
		killpoint.Reached(killpoint.AfterApply)
		fmt.Print(".")
	}
}
