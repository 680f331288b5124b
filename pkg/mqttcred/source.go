package mqttcred

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// lookEvery is how often the folder is read if nothing tells of a change.
const lookEvery = 30 * time.Second

// Source follows a folder that a token Secret is mounted at, and says when to connect with what. It is safe for concurrent
// use. One source serves one MQTT client.
type Source struct {
	dir     string
	watcher *fsnotify.Watcher
	now     func() time.Time
	running sync.WaitGroup
	closing chan struct{}
	close   func() error

	mu   sync.Mutex
	held *held
}

// held is what a source has found. It lies behind a pointer because of what else may hold the source in a field: printing
// that one skips the source's own formatting, but follows no second pointer.
type held struct {
	current Credentials
	err     error
	changed chan struct{} // closed when current or err is another one
	gate    gate
}

// Open follows a folder: one that a Secret is mounted at, which must exist, or one within a projected volume, which may come
// later, as what is in it may. Close the source when it is not needed any more.
func Open(dir string) (*Source, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching %q: %w", dir, err)
	}
	if err := watcher.Add(watched(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("watching %q: %w", dir, err), watcher.Close())
	}
	s := &Source{
		dir: dir, watcher: watcher, closing: make(chan struct{}), held: &held{changed: make(chan struct{})},
		now: time.Now, //nolint:forbidigo // a client has no clock to give us
	}
	s.close = sync.OnceValue(func() error {
		close(s.closing)
		s.running.Wait()
		return watcher.Close()
	})
	s.look()
	s.running.Go(s.follow)
	return s, nil
}

// watched is the folder in which a link is moved when the files change: the mounted one or, if that is within a projected
// volume, the volume's.
func watched(dir string) string {
	volume := filepath.Dir(filepath.Clean(dir))
	if _, err := os.Lstat(filepath.Join(volume, dataLink)); err == nil {
		return volume
	}
	return dir
}

// Close ends the source; whoever waits for credentials goes on waiting for its context.
func (s *Source) Close() error { return s.close() }

// Await waits until there are credentials that are worth a CONNECT, and returns them: not those that were taken back, and
// not those that failed a moment ago. If it has to wait, it says why, each time that it is for another reason; ErrWithdrawn
// may be in that error's chain. Its own error is the context's.
func (s *Source) Await(ctx context.Context, waiting func(error)) (Credentials, error) {
	var said <-chan struct{} // until it is closed, why was said
	for saidOpens := (time.Time{}); ; {
		current, changed, why := s.state()
		opens := time.Time{}
		if why == nil {
			if opens = s.opensAt(current); !opens.After(s.now()) {
				return current, nil
			}
			why = fmt.Errorf("the same credentials are tried again at %s, others at once", opens.UTC().Format(time.TimeOnly))
		}
		if said != changed || !opens.Equal(saidOpens) {
			said, saidOpens = changed, opens
			waiting(why)
		}
		if err := s.wait(ctx, changed, opens); err != nil {
			return Credentials{}, err
		}
	}
}

// Current returns what the folder holds now, without waiting: for a library that connects by itself and asks for
// credentials each time. While the tokens are taken back, ErrWithdrawn is in the error's chain.
func (s *Source) Current() (Credentials, error) {
	current, _, err := s.state()
	return current, err
}

func (s *Source) opensAt(c Credentials) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held.gate.opensAt(c)
}

// Newer waits until the folder holds other credentials than those, and returns them. Its error is the context's.
func (s *Source) Newer(ctx context.Context, than Credentials) (Credentials, error) {
	for {
		current, changed, err := s.state()
		if err == nil && !current.isSame(than) {
			return current, nil
		}
		if err := s.wait(ctx, changed, time.Time{}); err != nil {
			return Credentials{}, err
		}
	}
}

// Ended tells the source how a connection ended that was made with some credentials and lasted so long; zero: it never
// came to be. Await takes account of it.
func (s *Source) Ended(used Credentials, why Ending, lasted time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.gate.ended(used, why, lasted, s.now(), rand.Float64()) //nolint:gosec // nobody is kept out by it
}

// ErrReconnect is what Refresh returns when newer credentials cannot be uploaded, or the broker did not take them.
var ErrReconnect = errors.New("newer credentials need a new connection")

// Refresh has newer tokens uploaded over a live connection as they come, until the context ends, and returns those that
// the connection has by then. The function publishes messages to TopicUpload, with QoS 1, and returns when the broker has
// acknowledged all of them; nothing else may be published meanwhile. On ErrReconnect, end the connection.
func (s *Source) Refresh(ctx context.Context, used Credentials, upload func(context.Context, [][]byte) error) (Credentials, error) {
	for {
		newer, err := s.Newer(ctx, used)
		if err != nil {
			return used, err
		}
		messages, possible := Uploads(used, newer)
		if !possible {
			return used, ErrReconnect
		}
		if err := upload(ctx, messages); err != nil {
			return used, fmt.Errorf("%w: %w", ErrReconnect, err)
		}
		used = newer
	}
}

func (s *Source) state() (current Credentials, changed <-chan struct{}, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held.current, s.held.changed, s.held.err
}

// wait waits for a change or a time; the zero time never comes.
func (s *Source) wait(ctx context.Context, changed <-chan struct{}, until time.Time) error {
	var comes <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(until.Sub(s.now())) //nolint:forbidigo // a client has no clock to give us
		defer timer.Stop()
		comes = timer.C
	}
	select {
	case <-changed:
		return nil
	case <-comes:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// follow reads the folder whenever something in it changes, and now and then: a notification can be lost.
func (s *Source) follow() {
	look := time.NewTicker(lookEvery) //nolint:forbidigo // a client has no clock to give us
	defer look.Stop()
	for {
		select {
		case <-s.watcher.Events:
		case <-s.watcher.Errors: //nolint:errcheck // a lost notification is what the ticker is for
		case <-look.C:
		case <-s.closing:
			return
		}
		s.look()
	}
}

// look reads the folder. A folder that changes while it is read is read again: that change tells of itself.
func (s *Source) look() {
	current, err := Load(s.dir)
	if errors.Is(err, ErrChanging) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	other := (err == nil) != (s.held.err == nil) || errors.Is(err, ErrWithdrawn) != errors.Is(s.held.err, ErrWithdrawn)
	if other || !current.isSame(s.held.current) {
		close(s.held.changed)
		s.held.changed = make(chan struct{})
	}
	s.held.current, s.held.err = current, err
}
