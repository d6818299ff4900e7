package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tool returns the path of a program, or says how to get it.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed; on Debian: apt-get install %s", name, pkg)
	}
	return path
}

// A lack makes room short for a server's store, and gives it back.
type lack interface {
	// begin leaves room for so many bytes, more or less.
	begin(more int64)
	end()
}

// fileLimit lets no file of the process grow over a size. Writing fails with EFBIG
// then, like with any other error of the disk.
type fileLimit struct {
	s       *server
	prlimit string
}

func (l *fileLimit) begin(more int64) {
	l.s.t.Helper()
	var size int64
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(l.s.store + suffix)
		if err != nil {
			l.s.t.Fatal(err)
		}
		size = max(size, info.Size())
	}
	l.set(strconv.FormatInt(size+more, 10))
	// The same for the next one that is started.
	l.s.wrap = []string{l.prlimit, fmt.Sprintf("--fsize=%d:unlimited", size+more)}
}

func (l *fileLimit) end() {
	l.s.t.Helper()
	l.set("unlimited")
	l.s.wrap = nil
}

func (l *fileLimit) set(soft string) {
	l.s.t.Helper()
	out, err := exec.Command(l.prlimit, "--pid", strconv.Itoa(l.s.Process.Pid), "--fsize="+soft+":").CombinedOutput()
	if err != nil {
		l.s.t.Fatalf("%v: %s", err, out)
	}
}

// ballast fills the file system on which the store is.
type ballast struct{ s *server }

func (b *ballast) path() string { return filepath.Join(filepath.Dir(b.s.store), "ballast") }

func (b *ballast) begin(more int64) {
	b.s.t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(b.s.store), &fs); err != nil {
		b.s.t.Fatal(err)
	}
	f, err := os.Create(b.path())
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer f.Close()
	_, err = io.CopyN(f, zeros{}, int64(fs.Bavail)*fs.Bsize-more)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		b.s.t.Fatal(err)
	}
}

func (b *ballast) end() {
	b.s.t.Helper()
	if err := os.Remove(b.path()); err != nil {
		b.s.t.Fatal(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestDiskFull takes the room away under traffic. What cannot be stored is refused, so
// that the gateway sends it again, and what was answered is there: at once, after a
// crash on the full disk, and when there is room again.
func TestDiskFull(t *testing.T) {
	t.Run("a limit for files", func(t *testing.T) {
		s := newServer(t, "")
		diskFull(t, s, &fileLimit{s, tool(t, "prlimit", "util-linux")})
	})
	// To whom the system gives the right, it is tried on a file system as well.
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Logf("mounting a small file system: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Run("a small file system", func(t *testing.T) {
		s := newServer(t, filepath.Join(dir, "ccpayment.db"))
		diskFull(t, s, &ballast{s})
	})
}

func diskFull(t *testing.T, s *server, room lack) {
	seed := number(t, "SEED", uint64(time.Now().UnixNano()))
	t.Logf("SEED=%d", seed)
	u := newReceiver(t)
	c := settings{webhook: u.block("shop", patience)}
	s.start(c)
	g := begin(t, s, seed, false, http.StatusServiceUnavailable)
	g.pause.Store(int64(20 * time.Millisecond))
	answered := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.answered)
	}
	more := func(n int) {
		t.Helper()
		before := answered()
		eventually(t, "callbacks are taken", func() bool { return answered() >= before+n })
	}
	refusals := func() {
		t.Helper()
		before := g.refused.Load()
		eventually(t, "callbacks are refused", func() bool { return g.refused.Load() >= before+200 })
		// The rest of the server is well.
		s.ready()
		if !strings.Contains(s.output(), "storing callback") {
			t.Error("the log does not say why")
		}
		g.stored()
	}

	more(300)
	room.begin(64 << 10)
	refusals()
	room.end()
	more(300)

	// The same, and the power goes while the disk is full.
	room.begin(64 << 10)
	refusals()
	s.kill()
	s.start(c)
	refusals()
	room.end()
	more(300)

	g.pause.Store(0)
	g.end()
	s.settled()
	again := u.check(g.sent)
	s.stop()
	g.stored()
	g.counted()
	s.intact()
	t.Logf("%d callbacks were answered, %d times one was refused, %d events came, %d of them again after they had been taken",
		len(g.answered), g.refused.Load(), len(u.got()), again)
}

// synced finds the end of a sync of the database in the list of system calls.
var synced = regexp.MustCompile(`(?:fsync|fdatasync)\(\d+<([^>]*)>\) += 0|<\.\.\. (?:fsync|fdatasync) resumed>\) += 0`)

// TestALoneCallbackIsAnsweredAfterOneSync counts the syncs that a callback costs when
// there is no other to share them with: one before its answer, and later one for
// what follows from it and one for the outcome of each delivery.
//
// A sync that belongs to another callback would be counted wrongly, so each is
// settled before the next one comes.
func TestALoneCallbackIsAnsweredAfterOneSync(t *testing.T) {
	strace := tool(t, "strace", "strace")
	for name, c := range map[string]struct {
		upstreams, least, most int
	}{
		"no upstream":   {0, 1, 1},
		"one upstream":  {1, 2, 2},
		"two upstreams": {2, 2, 3}, // outcomes at the same time share a commit
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, "")
			trace := filepath.Join(s.dir, "trace")
			s.wrap = []string{strace, "-f", "-y", "-s", "40", "-e", "trace=fsync,fdatasync,read,write", "-o", trace}
			t.Cleanup(func() { s.end() })
			var conf settings
			for i := range c.upstreams {
				conf.webhook += newReceiver(t).block(fmt.Sprint("shop", i), "")
			}
			s.start(conf)
			const first, count = "before", 12
			s.accept(callback{"bill", first, "success"}) // the header of a new log is synced too
			s.settled()
			for i := range count {
				s.accept(callback{"bill", fmt.Sprint(i), "success"})
				s.settled()
			}
			s.end()

			file, err := os.Open(trace)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			var before, after []int
			answered := false
			lines := bufio.NewScanner(file)
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				line := lines.Text()
				switch {
				case strings.Contains(line, `"POST /hooks/`):
					before, after, answered = append(before, 0), append(after, 0), false
				case strings.Contains(line, `"POST /stop`) && len(before) > 0:
					before, after, answered = append(before, 0), append(after, 0), true
				case len(before) == 0:
				case strings.Contains(line, `, "HTTP/1.1 200 OK`):
					answered = true
				case synced.MatchString(line):
					if answered {
						after[len(after)-1]++
					} else {
						before[len(before)-1]++
					}
				}
			}
			if err := lines.Err(); err != nil {
				t.Fatal(err)
			}
			if len(before) != count+2 {
				t.Fatalf("the list of system calls has %d callbacks", len(before)-1)
			}
			before, after = before[1:count+1], after[1:count+1]
			for i := range before {
				if before[i] != 1 || after[i] < c.least || after[i] > c.most {
					t.Fatalf("syncs before the answers: %v; after them: %v, want %d to %d", before, after, c.least, c.most)
				}
			}
		})
	}
}

// end ends a server that cannot be sent a signal because of what stands before it.
func (s *server) end() {
	if s.process == nil || s.ProcessState != nil {
		return
	}
	resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/stop", s.admin), "", http.NoBody)
	if err != nil {
		s.t.Error(err)
		return
	}
	resp.Body.Close()
	if err := s.Wait(); err != nil {
		s.t.Errorf("the server ended with %v", err)
	}
}
