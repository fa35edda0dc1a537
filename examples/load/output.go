package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// An output is where a run writes what it found.
type output struct {
	report io.Writer // for text or JSON
	rec    *recorder
	s      *settings
	files  []*os.File
	page   *os.File // one of files; nil if there is none
	failed error    // the time series is not complete
}

// open opens the files before anything else is done: a run must not turn out to be in vain at its end.
func open(s *settings, rec *recorder, stdout, stderr io.Writer) (*output, error) {
	o := &output{report: stdout, rec: rec, s: s}
	create := func(flag, name string) (*os.File, error) {
		f, err := os.Create(name)
		if err != nil {
			return nil, fmt.Errorf("-%s: %w", flag, err)
		}
		o.files = append(o.files, f)
		return f, nil
	}
	var err error
	if s.html != "" {
		if o.page, err = create("html", s.html); err != nil {
			return nil, err
		}
	}
	series := stdout
	switch s.csv {
	case "":
		return o, nil
	case "-":
		o.report = stderr
	default:
		if series, err = create("csv", s.csv); err != nil {
			return nil, errors.Join(err, o.closeFiles())
		}
	}
	rec.begin(series, func(err error) {
		o.failed = fmt.Errorf("-csv: the time series ends before the run: %w", err)
		rec.console.say("        %v", o.failed)
	})
	return o, o.failed
}

// close writes the page and closes all files.
func (o *output) close(r *report) error {
	var err error
	if o.page != nil {
		if err = writePage(o.page, r, o.rec, o.s); err != nil {
			err = fmt.Errorf("-html: %w", err)
		}
	}
	return errors.Join(o.failed, err, o.closeFiles())
}

func (o *output) closeFiles() error {
	var errs []error
	for _, f := range o.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
