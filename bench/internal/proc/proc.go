// Package proc reads what the kernel accounts to a process: processor time and
// memory. The figures of a server under test come from here, because they hold
// on a machine that does other things too.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of the times in /proc/PID/stat. It has been 100 on
// every Linux architecture that Go supports.
const ticksPerSecond = 100

// CPU gives the processor time, user and system, that all threads of a process
// have used, those that have ended included. Its resolution is 10 ms.
func CPU(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return parseStat(raw)
}

func parseStat(raw []byte) (time.Duration, error) {
	// The second field is the program's name in parentheses, which may itself
	// hold blanks and parentheses.
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return 0, errors.New("stat without a program name")
	}
	fields := strings.Fields(string(raw[end+1:]))
	const utime, stime = 11, 12 // fields 14 and 15, counted from the third
	if len(fields) <= stime {
		return 0, errors.New("stat is too short")
	}
	var sum time.Duration
	for _, f := range []string{fields[utime], fields[stime]} {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		sum += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return sum, nil
}

// Memory of a process in bytes.
type Memory struct {
	// Resident now.
	Resident int64
	// Peak of Resident since the process began.
	Peak int64
	// Anonymous is the resident part that is not backed by a file.
	Anonymous int64
}

// ReadMemory reads the memory of a process.
func ReadMemory(pid int) (Memory, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return parseStatus(raw)
}

func parseStatus(raw []byte) (Memory, error) {
	var m Memory
	want := map[string]*int64{"VmRSS": &m.Resident, "VmHWM": &m.Peak, "RssAnon": &m.Anonymous}
	found := 0
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		p, ok := want[name]
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("status %s: %w", name, err)
		}
		*p = kib << 10
		found++
	}
	if found != len(want) {
		return Memory{}, errors.New("status lacks memory figures")
	}
	return m, nil
}

// Settle waits until a process has come to rest after a load, that is, has used
// less than 3 % of one processor over a quarter of a second, twice in a row; it
// gives up after limit. It returns how long it took.
func Settle(ctx context.Context, pid int, limit time.Duration) (time.Duration, error) {
	const window = 250 * time.Millisecond
	start := time.Now()
	last, err := CPU(pid)
	if err != nil {
		return 0, err
	}
	calm := 0
	for time.Since(start) < limit {
		select {
		case <-ctx.Done():
			return time.Since(start), ctx.Err()
		case <-time.After(window):
		}
		now, err := CPU(pid)
		if err != nil {
			return 0, err
		}
		if now-last <= window*3/100+5*time.Millisecond {
			if calm++; calm == 2 {
				break
			}
		} else {
			calm = 0
		}
		last = now
	}
	return time.Since(start), nil
}
