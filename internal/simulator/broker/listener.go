package broker

import (
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/listeners"
)

const headerTimeout = 10 * time.Second

// listener hands connections of an open port to the MQTT server, as they are or out of WebSocket messages.
//
// The server's own listeners do not fit: its WebSocket listener can neither tell the port it got nor report that it got
// none, and all of them let a connection that never says CONNECT hold up the server's end.
type listener struct {
	kind  Kind
	bound net.Listener
	web   *http.Server   // nil unless kind is a WebSocket
	ended func(net.Conn) // called when the server is through with a connection

	establish listeners.EstablishFn // set once by Serve, before the first connection

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{}
	served sync.WaitGroup
}

func newListener(kind Kind, bound net.Listener, ended func(net.Conn)) *listener {
	l := &listener{kind: kind, bound: bound, ended: ended, open: map[net.Conn]struct{}{}}
	if kind == WebSocket || kind == WebSocketTLS {
		l.web = &http.Server{
			Handler: http.HandlerFunc(l.upgrade), ReadHeaderTimeout: headerTimeout, ErrorLog: log.New(io.Discard, "", 0),
		}
	}
	return l
}

// Init has nothing to do: the port is open.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID names the listener.
func (l *listener) ID() string { return string(l.kind) }

// Address is the address that clients connect to.
func (l *listener) Address() string { return l.bound.Addr().String() }

// Protocol names what the listener speaks.
func (l *listener) Protocol() string { return string(l.kind) }

// Serve hands over connections until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	l.establish = establish
	if l.web != nil {
		_ = l.web.Serve(l.bound) //nolint:errcheck // It ends by Close only.
		return
	}
	for {
		conn, err := l.bound.Accept()
		if err != nil {
			return
		}
		go l.serve(conn)
	}
}

// Close ends the listener and every connection, and waits until the server has let go of them.
func (l *listener) Close(closeClients listeners.CloseFn) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.bound.Close()
	if l.web != nil {
		_ = l.web.Close() //nolint:errcheck // Like the line above, it closes the port.
	}
	closeClients(l.ID())
	l.mu.Lock()
	for conn := range l.open {
		_ = conn.Close()
	}
	l.mu.Unlock()
	l.served.Wait()
}

func (l *listener) upgrade(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{
		Subprotocols: []string{"mqtt", "mqttv3.1"},
		CheckOrigin:  func(*http.Request) bool { return true }, // pages under development come from anywhere
	}
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	l.serve(&socketConn{Conn: socket.NetConn(), socket: socket})
}

// serve holds the connection open for the server, until one of them ends.
func (l *listener) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if !l.begin(conn) {
		return
	}
	defer l.end(conn)
	_ = l.establish(l.ID(), conn) //nolint:errcheck // Why a client went is the client's business.
	l.ended(conn)
}

func (l *listener) begin(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.open[conn] = struct{}{}
	l.served.Add(1)
	return true
}

func (l *listener) end(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
	l.served.Done()
}

// socketConn reads and writes a byte stream in binary WebSocket messages.
type socketConn struct {
	net.Conn
	socket *websocket.Conn
	rest   io.Reader // what is left of the current message; nil between messages
}

var errNotBinary = errors.New("MQTT travels in binary messages")

// Read reads from as many messages as needed for one byte.
func (c *socketConn) Read(p []byte) (int, error) {
	for {
		if c.rest == nil {
			kind, reader, err := c.socket.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errNotBinary
			}
			c.rest = reader
		}
		n, err := c.rest.Read(p)
		if errors.Is(err, io.EOF) {
			c.rest, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends one message. The server never writes twice at a time.
func (c *socketConn) Write(p []byte) (int, error) {
	if err := c.socket.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
