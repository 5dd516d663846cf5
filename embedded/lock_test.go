// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSecondStartIsRefused(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(dir, link))
	s := start(t, Config{Dir: dir})

	for _, other := range []string{dir, dir + "/.", link} {
		_, err := Start(Config{Dir: other})
		if !errors.Is(err, ErrLocked) {
			t.Fatalf("%s: got %v", other, err)
		}
		for _, want := range []string{filepath.Clean(other), "by a server in this process", "choose another directory"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
	}
	// The one that runs was not disturbed, and its end frees the directory.
	must(t, publish(connect(t, s), []byte("a")))
	must(t, s.Close())
	start(t, Config{Dir: link})
}

// A server that is killed gives up its directory, and its data is all there.
func TestKilledProcess(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	killed := false
	kill := func() {
		if !killed {
			killed = true
			must(t, child.Process.Kill())
			_ = child.Wait() // reports the kill
		}
	}
	defer kill()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("child says %q, %v", line, err)
	}

	_, err = Start(Config{Dir: dir})
	if want := fmt.Sprintf("%s is in use by process %d", dir, child.Process.Pid); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
	kill()
	s := start(t, Config{Dir: dir})
	if got, want := stored(t, connect(t, s)), []string{"before the kill"}; !reflect.DeepEqual(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
}

// What the lock file says is a hint; whether it is locked is what counts.
func TestLockFileOfAnEndedProcessIsIgnored(t *testing.T) {
	for _, content := range []string{"", "1\n", "not a process\n", strings.Repeat("9", 100)} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, lockName), []byte(content), 0o600))
		lock, err := lockDir(dir)
		must(t, err)
		got, err := os.ReadFile(lock.Name())
		must(t, err)
		if want := fmt.Sprintf("%d\n", os.Getpid()); string(got) != want {
			t.Errorf("after %q the file says %q, want %q", content, got, want)
		}
		must(t, lock.Close())
	}
}

// A holder that is not known is no reason to fail in another way.
func TestLockedWithoutHolder(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockDir(dir)
	must(t, err)
	defer lock.Close()
	must(t, lock.Truncate(0))
	if _, err := lockDir(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir+" is in use: ") {
		t.Errorf("got %v", err)
	}
}
