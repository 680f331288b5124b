package story

import (
	"context"
	"fmt"
	"time"
)

// Step is one step of a story about something.
type Step[T any] struct {
	Title string
	Run   func(T, context.Context) error
}

// Tell tells a story, step by step, up to the first one that does not hold.
func Tell[T any](ctx context.Context, p *Printer, about T, within time.Duration, steps []Step[T]) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("the story took longer than %s", within))
	defer cancel()
	for i, s := range steps {
		p.Step(s.Title)
		err := s.Run(about, ctx)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("step %d of %d, %q, did not hold: %w", i+1, len(steps), s.Title, err)
		}
	}
	p.Line(fmt.Sprintf("\nEvery step held, in %d s.", int(p.Elapsed().Seconds())))
	return nil
}
