package ccpayment

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A table has columns as wide as they need to be. A row's note stands below it.
type table struct {
	header []string
	rows   [][]string
	notes  []string
}

func (t *table) row(note string, cells ...string) {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	t.rows, t.notes = append(t.rows, cells), append(t.notes, printable(note))
}

// printable keeps what others have written, the gateway or whoever pays, from doing
// anything to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func (t *table) write(w io.Writer) {
	if len(t.rows) == 0 {
		fmt.Fprintf(w, "%s: none\n", strings.ToLower(t.header[0]))
		return
	}
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(cells []string) {
		var b strings.Builder
		for i, cell := range cells {
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	line(t.header)
	for i, row := range t.rows {
		line(row)
		if t.notes[i] != "" {
			fmt.Fprintln(w, "  "+fit(t.notes[i], 76))
		}
	}
}

// fit shortens a text that is wider than its column. Nothing that could be mistaken
// for a whole amount comes of it.
func fit(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return s
}

// age says roughly how long something is.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
