//go:build !unix || aix || solaris

package control

import "errors"

// lock is missing: there is no server on this system, only the client.
func lock(string) (unlock func(), err error) { return nil, errors.ErrUnsupported }
