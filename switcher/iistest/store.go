package iistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/switcher/iistest/internal/bytexml"
)

// errChangedOnDisk: another program has written the file since it was read.
var errChangedOnDisk = errors.New("configuration file has changed on disk")

// tick is how often the machine looks at its files.
const tick = 20 * time.Millisecond

// read reads applicationHost.config.
func (s *Server) read() ([]byte, *hostConf, error) {
	data, err := atomicfile.Read(s.ConfigPath())
	if err != nil {
		return nil, nil, err
	}
	doc, err := bytexml.Parse(data)
	if err != nil {
		return data, nil, err
	}
	conf, err := readHost(doc)
	return data, conf, err
}

// EditConfig changes applicationHost.config as another program would: edit gets the content and returns the new one. No command writes the
// file meanwhile; one that has read it before fails to commit. The runtime follows after Config.WASDelay.
func (s *Server) EditConfig(edit func(content []byte) ([]byte, error)) error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	data, err := atomicfile.Read(s.ConfigPath())
	if err != nil {
		return err
	}
	next, err := edit(bytes.Clone(data))
	if err != nil {
		return err
	}
	return s.write(s.ConfigPath(), next)
}

// replace writes a configuration file if it still has the content was.
func (s *Server) replace(path string, was, next []byte) error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	now, err := atomicfile.Read(path)
	if err != nil && (was != nil || !errors.Is(err, os.ErrNotExist)) {
		return err
	}
	if !bytes.Equal(now, was) {
		return errChangedOnDisk
	}
	return s.write(path, next)
}

// write writes a configuration file; fileMu is held. If the runtime follows commits at once, it has followed at return.
func (s *Server) write(path string, data []byte) error {
	if err := atomicfile.Write(path, data, 0o644); err != nil {
		return err
	}
	if path != s.ConfigPath() {
		return nil
	}
	if s.cfg.WASDelay == 0 {
		s.follow()
		return nil
	}
	select {
	case s.poke <- struct{}{}:
	default:
	}
	return nil
}

// watch makes the runtime follow the files, until the machine ends.
func (s *Server) watch() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		case <-s.poke:
		}
		s.mu.Lock()
		applied, up := s.applied, s.up
		if up {
			s.look()
		}
		s.mu.Unlock()
		data, err := atomicfile.Read(s.ConfigPath())
		if err != nil || !up || bytes.Equal(data, applied) {
			continue
		}
		if s.cfg.WASDelay > 0 && !s.sleep(s.ctx, s.cfg.WASDelay) {
			return
		}
		s.follow()
	}
}

// follow makes the runtime do what the file says now. A file that cannot be read is ignored, as WAS does after it has logged it.
func (s *Server) follow() {
	data, conf, err := s.read()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || !s.up || data == nil || bytes.Equal(data, s.applied):
	case err != nil:
		s.cfg.Logger.Debug("configuration ignored", "err", err)
		s.applied = data
		s.wake()
	default:
		s.apply(data, conf)
	}
}

// Settle returns when the runtime follows what the file says now.
func (s *Server) Settle(ctx context.Context) error {
	data, err := atomicfile.Read(s.ConfigPath())
	if err != nil {
		return err
	}
	if err := s.await(ctx, func() bool { return bytes.Equal(s.applied, data) || !s.up }); err != nil {
		return fmt.Errorf("runtime does not follow the configuration: %w", err)
	}
	return nil
}
