package nginx

import (
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Both ways to find the children of a process find the same ones, and none that lives is missing while others come and go.
func TestChildren(t *testing.T) {
	parent := exec.Command("sh", "-c", "sleep 60 & sleep 60 & for i in $(seq 1 200); do /bin/true & done; echo ready; wait")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	var lasting []int
	t.Cleanup(func() {
		for _, pid := range append(lasting, parent.Process.Pid) {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		_ = parent.Wait()
	})
	var read sync.WaitGroup
	over := make(chan struct{})
	read.Go(func() {
		defer close(over)
		_, _ = out.Read(make([]byte, 16))
	})
	defer read.Wait()
	sleeps := func(find func(int) ([]int, error)) []int {
		all, err := find(parent.Process.Pid)
		require.NoError(t, err)
		all = slices.DeleteFunc(all, func(pid int) bool { p, err := lookAt(pid); return err != nil || p.title != "sleep 60" })
		slices.Sort(all)
		return all
	}
	if _, err := childrenOf(parent.Process.Pid); os.IsNotExist(err) {
		t.Skip("this kernel does not tell the children of a process")
	}
	require.Eventually(t, func() bool { lasting = sleeps(childrenAmongAll); return len(lasting) == 2 }, 30*time.Second, 5*time.Millisecond)
	for busy := true; busy; {
		select {
		case <-over:
			busy = false
		default:
		}
		all, err := childrenOf(parent.Process.Pid)
		if err != nil {
			continue // it changes all the time, and says so
		}
		for _, pid := range lasting {
			assert.Contains(t, all, pid, "a process that ends hides no other")
		}
	}
	require.Eventually(t, func() bool { return slices.Equal(lasting, sleeps(childrenOf)) }, 30*time.Second, 5*time.Millisecond)
}
