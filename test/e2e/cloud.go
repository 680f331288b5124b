package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// cloud is the simulator, which runs in a pod, as its admin endpoint shows it.
type cloud struct {
	APIPort, AdminPort, TLSPort int
	CA                          string
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
	for _, port := range []*int{&c.APIPort, &c.AdminPort, &c.TLSPort} {
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
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", c.AdminPort, path), http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the simulator: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("asking the simulator: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the simulator for %s: %s", path, response.Status)
	}
	return body, nil
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

// calls counts the calls of each operation.
func (c cloud) calls(ctx context.Context) (map[string]int, error) {
	var counted map[string]struct {
		Total int `json:"total"`
	}
	err := c.read(ctx, "/calls", &counted)
	totals := map[string]int{}
	for operation, n := range counted {
		totals[operation] = n.Total
	}
	return totals, err
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
