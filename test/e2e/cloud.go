package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// cloud is the simulator, which runs in a pod, as its admin endpoint shows it.
type cloud struct {
	APIPort, AdminPort, TLSPort int // on the node
	CA                          string
	local                       int // where the admin endpoint is forwarded to
}

// issued is a token at the service; its text is told to nobody.
type issued struct {
	ID       string    `json:"id"`
	Topics   []string  `json:"topics"`
	Validity string    `json:"validity"`
	Expires  time.Time `json:"expires"`
}

// newCloud finds ports that nobody listens at.
func newCloud() (cloud, error) {
	var c cloud
	for _, port := range []*int{&c.APIPort, &c.AdminPort, &c.TLSPort, &c.local} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return cloud{}, fmt.Errorf("looking for a free port: %w", err)
		}
		address, ok := listener.Addr().(*net.TCPAddr)
		if err := errors.Join(listener.Close()); err != nil || !ok {
			return cloud{}, fmt.Errorf("looking for a free port: %w", err)
		}
		*port = address.Port
	}
	return c, nil
}

// get asks the admin endpoint.
func (c cloud) get(ctx context.Context, path string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, path, http.NoBody)
}

// slowDown has the service hold back each answer for so long.
func (c cloud) slowDown(ctx context.Context, latency time.Duration) error {
	_, err := c.do(ctx, http.MethodPut, "/faults", strings.NewReader(fmt.Sprintf(`{"latency":%q}`, latency)))
	return err
}

func (c cloud) do(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", c.local, path), body)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the simulator: %w", err)
	}
	answer, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("asking the simulator: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the simulator for %s: %s", path, response.Status)
	}
	return answer, nil
}

// clients lists the ids of the connected MQTT clients.
func (c cloud) clients(ctx context.Context) (ids []string, err error) {
	err = c.read(ctx, "/clients", &ids)
	return ids, err
}

// alive lists the tokens that the service takes.
func (c cloud) alive(ctx context.Context) ([]issued, error) {
	var all, alive []issued
	if err := c.read(ctx, "/tokens", &all); err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Validity == "Valid" {
			alive = append(alive, t)
		}
	}
	return alive, nil
}

// counted are the calls of an operation, and those that failed by code.
type counted struct {
	Total  int            `json:"total"`
	Failed int            `json:"failed"`
	Codes  map[string]int `json:"codes"`
}

func (c cloud) calls(ctx context.Context) (calls map[string]counted, err error) {
	err = c.read(ctx, "/calls", &calls)
	return calls, err
}

func (c cloud) read(ctx context.Context, path string, into any) error {
	text, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading the simulator's %s: %w", path, err)
	}
	return nil
}
