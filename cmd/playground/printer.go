package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// plainTick is how often a wait is reported where lines cannot be overwritten.
const plainTick = 20 * time.Second

// printer tells the story: numbered steps, a check mark for each expectation that held, and the time it took so far.
type printer struct {
	out      io.Writer
	terminal bool
	began    time.Time
	steps    int
	// pending is the length of a line that is still being overwritten; ticked is when a wait was last reported.
	pending int
	ticked  time.Time
}

func newPrinter(out *os.File) *printer {
	info, err := out.Stat()
	return &printer{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, began: time.Now()}
}

// step opens a step.
func (p *printer) step(title string) {
	p.steps++
	p.line(fmt.Sprintf("\n%2d. %s", p.steps, title))
}

// held says that an expectation held.
func (p *printer) held(format string, arguments ...any) {
	p.line(fmt.Sprintf("    %s %s", p.mark("✓", "32"), fmt.Sprintf(format, arguments...)) + p.elapsed())
}

// failed says what did not hold, and why.
func (p *printer) failed(err error) {
	p.line(fmt.Sprintf("    %s %s", p.mark("✗", "31"), err) + p.elapsed())
}

// note says something by the way.
func (p *printer) note(format string, arguments ...any) {
	p.line("      " + fmt.Sprintf(format, arguments...))
}

// block shows what a command printed.
func (p *printer) block(text string) {
	for line := range strings.Lines(text) {
		p.line("      | " + strings.TrimRight(line, "\n"))
	}
}

// line prints whole lines.
func (p *printer) line(text string) {
	p.wipe()
	p.ticked = time.Now()
	p.write(text + "\n")
}

// tick shows how a wait goes: on a terminal as a line that changes, elsewhere as a line now and then.
func (p *printer) tick(text string) {
	switch {
	case p.terminal:
		p.wipe()
		text = "      … " + text
		p.pending = len(text)
		p.write(text)
	case time.Since(p.ticked) >= plainTick:
		p.note("… %s", text)
	}
}

func (p *printer) wipe() {
	if p.pending > 0 {
		p.write("\r" + strings.Repeat(" ", p.pending) + "\r")
		p.pending = 0
	}
}

func (p *printer) elapsed() string {
	return p.mark(fmt.Sprintf("  (%ds)", int(time.Since(p.began).Seconds())), "2")
}

// mark colours a text where there is a terminal.
func (p *printer) mark(text, colour string) string {
	if !p.terminal {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// write prints. Who has closed the terminal does not read why it went wrong, either.
func (p *printer) write(text string) {
	_, _ = io.WriteString(p.out, text) //nolint:errcheck // see above
}
