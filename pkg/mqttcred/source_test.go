package mqttcred_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/device"
)

// mount is a mounted Secret whose files change all at once.
type mount struct {
	t *testing.T
	device.Volume
}

func newMount(t *testing.T, password string) *mount {
	t.Helper()
	m := &mount{t: t, Volume: device.Volume{Folder: filepath.Join(t.TempDir(), "mqtt")}}
	m.lay(map[string]string{"password": password})
	return m
}

func (m *mount) lay(change map[string]string) {
	m.t.Helper()
	data := map[string][]byte{}
	for key, text := range files() {
		data[key] = []byte(text)
	}
	for key, text := range change {
		data[key] = []byte(text)
	}
	if err := m.Lay(data); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mount) open() *mqttcred.Source {
	m.t.Helper()
	source, err := mqttcred.Open(m.Folder)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := source.Close(); err != nil {
			m.t.Error(err)
		}
	})
	return source
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func quietly(error) {}

func TestASourceFollowsItsFolder(t *testing.T) {
	m := newMount(t, "W|one")
	source := m.open()
	first, err := source.Await(within(t, 10*time.Second), quietly)
	if err != nil || first.Password != "W|one" {
		t.Fatalf("%v, %v", first, err)
	}
	m.lay(map[string]string{"password": "W|two"})
	second, err := source.Newer(within(t, 10*time.Second), first)
	if err != nil || second.Password != "W|two" {
		t.Errorf("%v, %v", second, err)
	}
}

func TestASourceWaitsWhileTokensAreTakenBack(t *testing.T) {
	m := newMount(t, "W|one")
	m.lay(map[string]string{"tokens.json": "[]"})
	source := m.open()
	waiting := make(chan error, 8)
	go func() {
		why := <-waiting
		if !errors.Is(why, mqttcred.ErrWithdrawn) {
			t.Errorf("it waits for %v", why)
		}
		m.lay(map[string]string{"password": "W|two"})
	}()
	got, err := source.Await(within(t, 10*time.Second), func(why error) { waiting <- why })
	if err != nil || got.Password != "W|two" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestDeadCredentialsAreNotTriedUntilOthersCome(t *testing.T) {
	m := newMount(t, "W|one")
	source := m.open()
	dead, err := source.Await(within(t, 10*time.Second), quietly)
	if err != nil {
		t.Fatal(err)
	}
	source.Ended(dead, mqttcred.Refused, 0)
	said := make(chan string, 8)
	if got, err := source.Await(within(t, 300*time.Millisecond), func(why error) { said <- why.Error() }); err == nil {
		t.Errorf("it offers %v again", got)
	}
	if why := <-said; !strings.Contains(why, "tried again at") {
		t.Errorf("it waits for %q", why)
	}
	m.lay(map[string]string{"password": "W|two"})
	if got, err := source.Await(within(t, 10*time.Second), quietly); err != nil || got.Password != "W|two" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestNewerTokensAreUploadedAsTheyCome(t *testing.T) {
	m := newMount(t, "W|one")
	m.lay(map[string]string{"password": "W|one", "tokens.json": `[{"type":"W","token":"one"}]`})
	source := m.open()
	used, err := source.Await(within(t, 10*time.Second), quietly)
	if err != nil {
		t.Fatal(err)
	}
	m.lay(map[string]string{"password": "W|two", "tokens.json": `[{"type":"W","token":"two"}]`})
	refusal := errors.New("no PUBACK")
	var uploaded []string
	last, err := source.Refresh(within(t, 10*time.Second), used, func(_ context.Context, messages [][]byte) error {
		uploaded = append(uploaded, string(messages[0]))
		if len(uploaded) == 2 {
			return refusal
		}
		m.lay(map[string]string{"password": "W|three", "tokens.json": `[{"type":"W","token":"three"}]`})
		return nil
	})
	if !errors.Is(err, mqttcred.ErrReconnect) || !errors.Is(err, refusal) || last.Password != "W|two" {
		t.Errorf("the connection has %q, and %v", last.Password, err)
	}
	if want := `{"token":"two","type":"W"} {"token":"three","type":"W"}`; strings.Join(uploaded, " ") != want {
		t.Errorf("uploaded %q", uploaded)
	}
}

// A StatefulSet has one volume for all its pods, with a folder for each; the volume changes as a whole.
func TestASourceFollowsAFolderOfAProjectedVolume(t *testing.T) {
	volume, versions := t.TempDir(), 0
	lay := func(password string) {
		t.Helper()
		versions++
		version := fmt.Sprintf("..version-%d", versions)
		folder := filepath.Join(volume, version, "press-0")
		faults := []error{os.MkdirAll(folder, 0o700)}
		for key, text := range files() {
			if key == "password" {
				text = password
			}
			faults = append(faults, os.WriteFile(filepath.Join(folder, key), []byte(text), 0o600))
		}
		link := filepath.Join(volume, "..data")
		faults = append(faults, os.Symlink(version, link+"_tmp"), os.Rename(link+"_tmp", link))
		if versions == 1 {
			faults = append(faults, os.Symlink(filepath.Join("..data", "press-0"), filepath.Join(volume, "press-0")))
		} else {
			faults = append(faults, os.RemoveAll(filepath.Join(volume, fmt.Sprintf("..version-%d", versions-1))))
		}
		if err := errors.Join(faults...); err != nil {
			t.Fatal(err)
		}
	}
	lay("W|1")
	source, err := mqttcred.Open(filepath.Join(volume, "press-0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	current, err := source.Await(within(t, 10*time.Second), quietly)
	for n := 2; err == nil && n < 5; n++ {
		want := fmt.Sprintf("W|%d", n)
		lay(want)
		if current, err = source.Newer(within(t, 10*time.Second), current); err == nil && current.Password != want {
			t.Errorf("got %q, want %q", current.Password, want)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func TestNoFolderIsAnError(t *testing.T) {
	if _, err := mqttcred.Open(filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Error("a folder that is not there was opened")
	}
}

func TestPrintingASourceHidesWhatItHolds(t *testing.T) {
	source := newMount(t, "W|"+canary).open()
	dead, err := source.Await(within(t, 10*time.Second), quietly)
	if err != nil {
		t.Fatal(err)
	}
	source.Ended(dead, mqttcred.Refused, 0)
	for _, value := range []any{source, []*mqttcred.Source{source}, struct{ source *mqttcred.Source }{source}, &struct{ source *mqttcred.Source }{source}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s of %T prints the secret", verb, value)
			}
		}
	}
}
