package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// A console is where a run says what it is at. On a terminal the state of the run is one line at the bottom that changes, with
// all else above it; elsewhere it is a line each time. Safe for concurrent use.
type console struct {
	w     io.Writer
	width func() int // of the terminal; nil if it is none

	mu    sync.Mutex
	state string // what stands at the bottom of the terminal
}

// newConsole writes to w, which may be a terminal.
func newConsole(w io.Writer) *console {
	c := &console{w: w}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		c.width = func() int {
			width, _, err := term.GetSize(int(file.Fd()))
			if err != nil || width < 2 {
				return 80
			}
			return width
		}
	}
	return c
}

// clearLine goes to the beginning of the line and empties it.
const clearLine = "\r\x1b[K"

// terminal reports whether the state of the run is a line that changes.
func (c *console) terminal() bool { return c.width != nil }

// say writes a line that stays.
func (c *console) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if c.state == "" {
		fmt.Fprintln(c.w, text)
		return
	}
	fmt.Fprint(c.w, clearLine, text, "\n", c.state)
}

// show writes the state of the run.
func (c *console) show(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.terminal() {
		fmt.Fprintln(c.w, text)
		return
	}
	// A line that reached the edge would go on in the next one, and could not be cleared.
	if letters := []rune(text); len(letters) >= c.width() {
		text = string(letters[:c.width()-1])
	}
	c.state = text
	fmt.Fprint(c.w, clearLine, text)
}

// leave lets the state of the run stand where it is, so that what follows begins a line.
func (c *console) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != "" {
		c.state = ""
		fmt.Fprintln(c.w)
	}
}
