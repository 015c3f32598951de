//go:build !linux

package lease

import "errors"

// datasync exists on Linux only.
type datasync struct{}

func newDatasync() (*datasync, error) { return nil, errors.ErrUnsupported }

func (*datasync) close() error { return nil }

func (*datasync) expect(int) {}

func (*datasync) sync(_ uintptr, otherwise func() error) error { return otherwise() }
