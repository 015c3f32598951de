//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Mount lies over a file or directory of the machine, for one program.
type Mount struct {
	Source   string // a file or directory; "": an empty directory in memory
	Target   string // which exists, or is inside an earlier mount and is then made
	ReadOnly bool
}

// mountEnv holds what mountAndExec has to do.
const mountEnv = "DICOMNAM_LAB_MOUNTS"

type mountTask struct {
	Path   string // the program
	Mounts []Mount
}

// mountFirst has this program started in the place of the command's, in a mount
// namespace of its own: it makes the mounts and becomes the command's program,
// with the same process number.
func mountFirst(cmd *exec.Cmd, mounts []Mount) error {
	task, err := json.Marshal(mountTask{cmd.Path, mounts})
	if err != nil {
		return err
	}
	if cmd.Path, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	cmd.Env = append(cmd.Env, mountEnv+"="+string(task))
	// Go makes every mount of the new namespace private: none reaches the machine.
	cmd.SysProcAttr.Unshareflags |= syscall.CLONE_NEWNS
	return nil
}

// mountAndExec returns only if it fails.
func mountAndExec(mounts string, args []string) error {
	var task mountTask
	if err := json.Unmarshal([]byte(mounts), &task); err != nil {
		return fmt.Errorf("%s: %w", mountEnv, err)
	}
	if err := os.Unsetenv(mountEnv); err != nil {
		return err
	}
	for _, m := range task.Mounts {
		if err := m.mount(); err != nil {
			return fmt.Errorf("mounting %q on %s: %w", m.Source, m.Target, err)
		}
	}
	return fmt.Errorf("executing %s: %w", task.Path, unix.Exec(task.Path, args, os.Environ()))
}

func (m Mount) mount() error {
	if m.Source == "" {
		return unix.Mount("tmpfs", m.Target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755")
	}
	if fi, err := os.Stat(m.Source); err != nil {
		return err
	} else if fi.IsDir() {
		if err := os.MkdirAll(m.Target, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(m.Source, m.Target, "", unix.MS_BIND, ""); err != nil || !m.ReadOnly {
		return err
	}
	return unix.Mount("", m.Target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}
