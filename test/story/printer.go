// Package story tells what a program does while it does it: numbered steps, a check mark for each expectation that held,
// and the time it took so far.
package story

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// plainTick is how often a wait is reported where lines cannot be overwritten.
const plainTick = 20 * time.Second

// Printer prints a story.
type Printer struct {
	out      io.Writer
	terminal bool
	began    time.Time
	steps    int
	// pending is the length of a line that is still being overwritten; ticked is when a wait was last reported.
	pending int
	ticked  time.Time
}

// NewPrinter returns a printer that uses colours, and lines that change, where it prints to a terminal.
func NewPrinter(out *os.File) *Printer {
	info, err := out.Stat()
	return &Printer{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, began: time.Now()}
}

// Step opens a step.
func (p *Printer) Step(title string) {
	p.steps++
	p.Line(fmt.Sprintf("\n%2d. %s", p.steps, title))
}

// Held says that an expectation held.
func (p *Printer) Held(format string, arguments ...any) {
	p.Line(fmt.Sprintf("    %s %s", p.mark("✓", "32"), fmt.Sprintf(format, arguments...)) + p.elapsed())
}

// Failed says what did not hold, and why.
func (p *Printer) Failed(err error) {
	p.Line(fmt.Sprintf("    %s %s", p.mark("✗", "31"), err) + p.elapsed())
}

// Note says something by the way.
func (p *Printer) Note(format string, arguments ...any) {
	p.Line("      " + fmt.Sprintf(format, arguments...))
}

// Block shows what a command printed.
func (p *Printer) Block(text string) {
	for line := range strings.Lines(text) {
		p.Line("      | " + strings.TrimRight(line, "\n"))
	}
}

// Line prints whole lines.
func (p *Printer) Line(text string) {
	p.wipe()
	p.ticked = time.Now()
	p.write(text + "\n")
}

// Tick shows how a wait goes: on a terminal as a line that changes, elsewhere as a line now and then.
func (p *Printer) Tick(text string) {
	switch {
	case p.terminal:
		p.wipe()
		text = "      … " + text
		p.pending = len(text)
		p.write(text)
	case time.Since(p.ticked) >= plainTick:
		p.Note("… %s", text)
	}
}

func (p *Printer) wipe() {
	if p.pending > 0 {
		p.write("\r" + strings.Repeat(" ", p.pending) + "\r")
		p.pending = 0
	}
}

func (p *Printer) elapsed() string {
	return p.mark(fmt.Sprintf("  (%ds)", int(time.Since(p.began).Seconds())), "2")
}

// mark colours a text where there is a terminal.
func (p *Printer) mark(text, colour string) string {
	if !p.terminal {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// write prints. Who has closed the terminal does not read why it went wrong, either.
func (p *Printer) write(text string) {
	_, _ = io.WriteString(p.out, text) //nolint:errcheck // see above
}

// Elapsed is how long the story takes so far.
func (p *Printer) Elapsed() time.Duration { return time.Since(p.began) }
