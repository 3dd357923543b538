package tcp_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/tcp"
)

// doorEnv makes the test program a front door for that address: what it costs must be measured in a process of its own.
const doorEnv = "ABSWAP_TCP_DOOR"

func TestMain(m *testing.M) {
	if addr := os.Getenv(doorEnv); addr != "" {
		os.Exit(beDoor(addr))
	}
	os.Exit(m.Run())
}

// beDoor serves until its standard input ends, and says first where.
func beDoor(addr string) int {
	s, err := tcp.New(tcp.Config{Slots: map[string]string{"blue": addr}, Active: "blue"})
	if err != nil {
		return 1
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	fmt.Println(l.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		s.Close()
	}()
	if err := s.Serve(l); !errors.Is(err, net.ErrClosed) {
		return 1
	}
	return 0
}

// cpu is the processor time of a process so far.
func cpu(b *testing.B, pid int) time.Duration {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	require.NoError(b, err)
	var sum int64
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil {
			n, _ := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
			sum += n
		}
	}
	return time.Duration(sum)
}

// peer is a front door in a process of its own.
type peer struct {
	name  string
	start func(b *testing.B, addr string) (front string, pid int)
}

func peers() []peer { return []peer{{"abswap", startOurs}, {"haproxy", startHAProxy}} }

func startOurs(b *testing.B, addr string) (string, int) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), doorEnv+"="+addr)
	in, err := c.StdinPipe()
	require.NoError(b, err)
	out, err := c.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, c.Start())
	b.Cleanup(func() {
		in.Close()
		c.Wait()
	})
	front, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	return strings.TrimSpace(front), c.Process.Pid
}

func startHAProxy(b *testing.B, addr string) (string, int) {
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/haproxy"); err != nil {
			b.Skip("haproxy is not installed")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	front := l.Addr().String()
	l.Close()
	cfg := filepath.Join(b.TempDir(), "haproxy.cfg")
	require.NoError(b, os.WriteFile(cfg, []byte(`global
  nbthread 2
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option splice-auto
listen all
  bind `+front+`
  server blue `+addr+`
`), 0o600))
	c := exec.Command(bin, "-db", "-f", cfg)
	require.NoError(b, c.Start())
	b.Cleanup(func() {
		c.Process.Signal(os.Interrupt)
		c.Wait()
	})
	require.Eventually(b, func() bool {
		conn, err := net.Dial("tcp", front)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, patience, 5*time.Millisecond)
	return front, c.Process.Pid
}

// BenchmarkDown carries a GiB from the slot to the client, BenchmarkUp one the other way.
func BenchmarkDown(b *testing.B) {
	bulk(b, func(c net.Conn) { send(c) }, func(c net.Conn) {
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
	})
}

func BenchmarkUp(b *testing.B) {
	swallow := func(c net.Conn) {
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
		c.Write([]byte{1})
	}
	bulk(b, swallow, func(c net.Conn) {
		send(c)
		c.(*net.TCPConn).CloseWrite()
		io.ReadFull(c, make([]byte, 1))
	})
}

const gib = 1 << 30

func send(c net.Conn) {
	piece := make([]byte, 256<<10)
	for left := gib; left > 0; left -= len(piece) {
		if _, err := c.Write(piece); err != nil {
			return
		}
	}
}

func bulk(b *testing.B, slot, client func(net.Conn)) {
	for _, p := range peers() {
		b.Run(p.name, func(b *testing.B) {
			front, pid := p.start(b, listen(b, func(c *net.TCPConn) { slot(c) }))
			began := cpu(b, pid)
			b.SetBytes(gib)
			for b.Loop() {
				c, err := net.Dial("tcp", front)
				require.NoError(b, err)
				client(c)
				c.Close()
			}
			b.ReportMetric((cpu(b, pid)-began).Seconds()/float64(b.N), "cpu-s/GiB")
		})
	}
}

// BenchmarkConnections makes connections that carry one byte there and one back, sixteen at a time.
func BenchmarkConnections(b *testing.B) {
	for _, p := range peers() {
		b.Run(p.name, func(b *testing.B) {
			front, pid := p.start(b, listen(b, func(c *net.TCPConn) { io.CopyN(c, c, 1) }))
			began := cpu(b, pid)
			var lanes sync.WaitGroup
			jobs := make(chan struct{})
			for range 16 {
				lanes.Go(func() {
					for range jobs {
						c, err := net.Dial("tcp", front)
						if err != nil {
							b.Error(err)
							continue
						}
						c.Write([]byte{1})
						if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
							b.Error(err)
						}
						c.Close()
					}
				})
			}
			for b.Loop() {
				jobs <- struct{}{}
			}
			close(jobs)
			lanes.Wait()
			b.ReportMetric(float64((cpu(b, pid)-began).Microseconds())/float64(b.N), "cpu-µs/conn")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conns/s")
		})
	}
}
