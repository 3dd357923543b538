package clients

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy"
)

type text = wrapperspb.StringValue

// echo is a gRPC service in a slot; each of its answers names the slot.
type echo struct {
	slot   string
	unary  atomic.Int64
	opened chan string // told when a stream begins; nil: nobody asks
}

func (e *echo) say(ctx context.Context, in *text) (*text, error) {
	e.unary.Add(1)
	grpc.SetTrailer(ctx, metadata.Pairs("slot", e.slot))
	if code, ok := strings.CutPrefix(in.Value, "fail "); ok {
		return nil, status.Error(codes.FailedPrecondition, code)
	}
	return wrapperspb.String(e.slot + " " + in.Value), nil
}

// talk answers each message, and at the end of them with their number. "end" ends the stream from this side, "count 9" sends nine messages.
func (e *echo) talk(s grpc.ServerStream) error {
	s.SetTrailer(metadata.Pairs("slot", e.slot))
	s.SendHeader(metadata.Pairs("begun", "yes"))
	if e.opened != nil {
		e.opened <- e.slot
	}
	for n := 0; ; n++ {
		in := new(text)
		err := s.RecvMsg(in)
		if errors.Is(err, io.EOF) {
			return s.SendMsg(wrapperspb.String(fmt.Sprint(e.slot, " ", n)))
		}
		if err != nil {
			return err
		}
		var count int
		if in.Value == "end" {
			return status.Error(codes.Aborted, "ended by the slot")
		}
		if _, err := fmt.Sscanf(in.Value, "count %d", &count); err == nil {
			for i := range count {
				if err := s.SendMsg(wrapperspb.String(fmt.Sprint(i))); err != nil {
					return err
				}
			}
			continue
		}
		if err := s.SendMsg(wrapperspb.String(e.slot + " " + in.Value)); err != nil {
			return err
		}
	}
}

// serveEcho starts e and returns where.
func serveEcho(t testing.TB, e *echo) (string, *grpc.Server) {
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(text)
			if err := dec(in); err != nil {
				return nil, err
			}
			return e.say(ctx, in)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Talk", Handler: func(_ any, s grpc.ServerStream) error { return e.talk(s) }, ServerStreams: true, ClientStreams: true}},
	}, e)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String(), s
}

var talk = &grpc.StreamDesc{StreamName: "Talk", ServerStreams: true, ClientStreams: true}

// grpcPair is a front with two gRPC servers behind it, and a client.
func grpcPair(t testing.TB, withTLS bool) (f *front, c *grpc.ClientConn, blue, green *echo) {
	blue, green = &echo{slot: "blue"}, &echo{slot: "green"}
	b, _ := serveEcho(t, blue)
	g, _ := serveEcho(t, green)
	f = serve(t, proxy.Config{Slots: map[string]string{"blue": b, "green": g}, Protocols: map[string]proxy.Protocol{"blue": proxy.H2C, "green": proxy.H2C},
		Active: "blue"}, withTLS)
	creds := insecure.NewCredentials()
	if withTLS {
		creds = credentials.NewTLS(&tls.Config{RootCAs: f.roots})
	}
	c, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return f, c, blue, green
}

func say(ctx context.Context, c *grpc.ClientConn, what string) (string, metadata.MD, error) {
	out := new(text)
	var trailer metadata.MD
	err := c.Invoke(ctx, "/test.Echo/Say", wrapperspb.String(what), out, grpc.Trailer(&trailer))
	return out.Value, trailer, err
}

func open(t testing.TB, c *grpc.ClientConn) grpc.ClientStream {
	s, err := c.NewStream(context.Background(), talk, "/test.Echo/Talk")
	require.NoError(t, err)
	return s
}

func ask(t testing.TB, s grpc.ClientStream, what string) string {
	require.NoError(t, s.SendMsg(wrapperspb.String(what)))
	return hear(t, s)
}

func hear(t testing.TB, s grpc.ClientStream) string {
	out := new(text)
	require.NoError(t, s.RecvMsg(out))
	return out.Value
}

// TestGRPC makes calls of every kind through the front door.
func TestGRPC(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		t.Run(map[bool]string{false: "plaintext", true: "tls"}[withTLS], func(t *testing.T) {
			f, c, _, _ := grpcPair(t, withTLS)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			got, trailer, err := say(ctx, c, "hello")
			require.NoError(t, err)
			assert.Equal(t, "blue hello", got)
			assert.Equal(t, []string{"blue"}, trailer["slot"], "trailers")

			_, trailer, err = say(ctx, c, "fail by design") // an answer of trailers only
			assert.Equal(t, codes.FailedPrecondition, status.Code(err))
			assert.Equal(t, "by design", status.Convert(err).Message())
			assert.Equal(t, []string{"blue"}, trailer["slot"])
			err = c.Invoke(ctx, "/test.Echo/Nothing", wrapperspb.String(""), new(text))
			assert.Equal(t, codes.Unimplemented, status.Code(err), "%v", err)

			large := strings.Repeat("x", 3<<20)
			got, _, err = say(ctx, c, large)
			require.NoError(t, err)
			assert.Equal(t, len("blue ")+len(large), len(got))

			s := open(t, c) // in both directions, in turn
			for i := range 100 {
				assert.Equal(t, fmt.Sprint("blue ", i), ask(t, s, fmt.Sprint(i)))
			}
			assert.Equal(t, 1, f.requests(t, "blue"))
			require.NoError(t, s.CloseSend())
			assert.Equal(t, "blue 100", hear(t, s))
			assert.ErrorIs(t, s.RecvMsg(new(text)), io.EOF)
			assert.Equal(t, []string{"blue"}, s.Trailer()["slot"])

			s = open(t, c) // the slot's messages
			require.NoError(t, s.SendMsg(wrapperspb.String("count 1000")))
			for i := range 1000 {
				assert.Equal(t, fmt.Sprint(i), hear(t, s))
			}
			s.CloseSend()
			assert.Equal(t, "blue 1", hear(t, s))

			s = open(t, c) // the slot ends it, the client has not
			begin := time.Now()
			require.NoError(t, s.SendMsg(wrapperspb.String("end")))
			err = s.RecvMsg(new(text))
			assert.Equal(t, codes.Aborted, status.Code(err))
			assert.Less(t, time.Since(begin), 3*time.Second, "at once, not when an upload is given up")

			ctx, cancel = context.WithCancel(t.Context())
			s, err = c.NewStream(ctx, talk, "/test.Echo/Talk")
			require.NoError(t, err)
			ask(t, s, "x")
			cancel()
			f.idle(t, "blue")
			assert.Zero(t, f.Stats().Failed)
		})
	}
}

// TestGRPCAcrossSwitches switches back and forth under calls: those after a switch reach the new slot, streams stay where they began until they
// end, and none fails.
func TestGRPCAcrossSwitches(t *testing.T) {
	f, c, blue, green := grpcPair(t, false)
	stop := make(chan struct{})
	var calls, lost atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, err := say(context.Background(), c, "x"); err != nil {
					lost.Add(1)
					t.Log(err)
				}
				calls.Add(1)
			}
		})
	}
	type old struct {
		s    grpc.ClientStream
		slot string
	}
	var streams []old
	names := []string{"blue", "green"}
	for i := range 20 {
		s := open(t, c)
		ask(t, s, "begin")
		streams = append(streams, old{s, names[i%2]})
		to := names[(i+1)%2]
		require.NoError(t, f.Activate(t.Context(), slot(to)))
		got, _, err := say(t.Context(), c, "late?")
		require.NoError(t, err)
		assert.Equal(t, to+" late?", got, "a call after the switch")
		for _, o := range streams {
			assert.Equal(t, o.slot+" still", ask(t, o.s, "still"))
		}
	}
	close(stop)
	all.Wait()
	assert.Zero(t, lost.Load(), "calls lost")
	assert.Positive(t, blue.unary.Load())
	assert.Positive(t, green.unary.Load())
	require.NoError(t, f.Activate(t.Context(), slot("blue")))
	assert.Equal(t, 10, f.requests(t, "green"))
	for _, o := range streams {
		require.NoError(t, o.s.CloseSend())
		assert.Equal(t, o.slot+" 21", fmt.Sprint(o.slot, " ", 21-count(t, o.s)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := abswap.Drain(ctx, f.Switcher, slot("green"), abswap.DrainOptions{})
	assert.NoError(t, err)
	assert.Zero(t, f.Stats().Failed)
	t.Logf("%d calls, %d streams, %d switches: %d lost", calls.Load(), len(streams), 20, lost.Load())
}

// count reads a stream to its end and returns 0 if it ended well.
func count(t testing.TB, s grpc.ClientStream) int {
	for {
		if err := s.RecvMsg(new(text)); err != nil {
			assert.ErrorIs(t, err, io.EOF)
			return 0
		}
	}
}

// TestGRPCServerStopsGracefully has the slot's server say GOAWAY while calls come: what it refuses it gets again, and nothing fails.
func TestGRPCServerStopsGracefully(t *testing.T) {
	e := &echo{slot: "blue"}
	addr, s := serveEcho(t, e)
	f := serve(t, proxy.Config{Slots: map[string]string{"blue": addr}, Protocols: map[string]proxy.Protocol{"blue": proxy.H2C}, Active: "blue"}, false)
	c, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer c.Close()
	st := open(t, c)
	ask(t, st, "begin")
	go s.GracefulStop()
	require.Eventually(t, func() bool { // new calls find nobody, and are told so
		_, _, err := say(t.Context(), c, "x")
		return status.Code(err) == codes.Unavailable
	}, patience, time.Millisecond)
	assert.Equal(t, "blue still", ask(t, st, "still"), "the stream goes on")
	require.NoError(t, st.CloseSend())
	count(t, st)
	f.idle(t, "blue")
}
