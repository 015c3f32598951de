package lease

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// datasync syncs a file's data as fdatasync(2) does, but no thread waits in a system call for it: the request goes to the
// kernel's asynchronous I/O (io_submit(2)), and Go's poller hears of its end. For each thread that waits in a system call
// Go's scheduler takes the processor from it, has another thread go on, and watches both closely for a millisecond; under
// load that takes several times the processor time of the write and the sync together.
type datasync struct {
	mu      sync.Mutex // one sync at a time
	context uintptr    // aio_context_t
	event   *os.File   // eventfd(2): counts the syncs that are over
	raw     syscall.RawConn
	few     atomic.Bool // see expect
}

// fewChanges is how many changes are synced by a thread that waits: then little else goes on that this would hold up, and
// on a machine that is busy with other programs the answer comes sooner, for the kernel's worker has to wait its turn too.
const fewChanges = 4

// What <linux/aio_abi.h> has of structures and constants.
type (
	iocb struct {
		_         uint64    // what io_getevents hands back
		_         [2]uint32 // key and flags
		opcode    uint16
		_         int16 // priority
		fd        uint32
		_         [3]uint64 // buffer, octets, offset
		_         uint64
		flags     uint32
		eventFile uint32
	}
	ioEvent struct {
		_      [2]uint64
		result int64
		_      int64
	}
)

const (
	iocbFdsync    = 3 // IOCB_CMD_FDSYNC
	iocbEventFile = 1 // IOCB_FLAG_RESFD
)

// newDatasync fails where the kernel has no asynchronous I/O, or no more of it.
func newDatasync() (*datasync, error) {
	s := &datasync{}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&s.context)), 0); errno != 0 {
		return nil, os.NewSyscallError("io_setup", errno)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), s.destroy())
	}
	s.event = os.NewFile(uintptr(fd), "eventfd")
	if s.raw, err = s.event.SyscallConn(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *datasync) destroy() error {
	if _, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, s.context, 0, 0); errno != 0 {
		return os.NewSyscallError("io_destroy", errno)
	}
	return nil
}

// close waits for nothing: what a disk that hangs keeps busy is left to the end of the process. Closing nil does nothing.
func (s *datasync) close() error {
	if s == nil || !s.mu.TryLock() {
		return nil
	}
	return errors.Join(s.event.Close(), s.destroy()) // and stays locked, so that it is not used any more
}

// expect is told how many changes the next sync is for.
func (s *datasync) expect(changes int) {
	if s != nil {
		s.few.Store(changes < fewChanges)
	}
}

// sync returns when the data that was written to the file is on stable storage, or with the reason why it is not. Where
// the kernel does not take the request, while another is under way, where few changes are expected, and where s is nil,
// that is left to otherwise.
func (s *datasync) sync(fd uintptr, otherwise func() error) error {
	if s == nil || s.few.Load() || !s.mu.TryLock() {
		return otherwise()
	}
	var over ioEvent
	var err error
	submitted := false
	failed := s.raw.Read(func(event uintptr) bool {
		if !submitted { // not before this: Read begins by forgetting what the poller has told
			request := &iocb{opcode: iocbFdsync, fd: uint32(fd), flags: iocbEventFile, eventFile: uint32(event)}
			n, _, errno := unix.RawSyscall(unix.SYS_IO_SUBMIT, s.context, 1, uintptr(unsafe.Pointer(&request)))
			submitted = errno == 0 && n == 1
			return !submitted
		}
		var count [8]byte // is read to reset it
		_, _, _ = unix.RawSyscall(unix.SYS_READ, event, uintptr(unsafe.Pointer(&count)), unsafe.Sizeof(count))
		var wait unix.Timespec // none
		n, _, errno := unix.RawSyscall6(unix.SYS_IO_GETEVENTS, s.context, 1, 1, uintptr(unsafe.Pointer(&over)), uintptr(unsafe.Pointer(&wait)), 0)
		if errno != 0 && errno != unix.EINTR {
			err = os.NewSyscallError("io_getevents", errno)
		}
		return n == 1 && errno == 0 || err != nil
	})
	if !submitted {
		s.mu.Unlock()
		return otherwise()
	}
	if err := errors.Join(failed, err); err != nil {
		return err // and stays locked: the end of this sync would be taken for that of another
	}
	s.mu.Unlock()
	return over.err()
}

// err is how the sync has ended.
func (e *ioEvent) err() error {
	if e.result < 0 {
		return os.NewSyscallError("fdatasync", syscall.Errno(-e.result))
	}
	return nil
}
