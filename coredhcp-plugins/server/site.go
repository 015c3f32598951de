package server

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// SiteFile is the site file of a server. Its plugins share it, so that all of
// them see the same state of it, and a mistake in it is told once.
type SiteFile struct {
	path    string
	current atomic.Pointer[site.Site]
}

// Current is what the file said when it was last read without an error.
func (f *SiteFile) Current() *site.Site { return f.current.Load() }

func (f *SiteFile) load(log *slog.Logger) error {
	s, warnings, err := site.Load(f.path)
	for _, w := range warnings {
		log.Warn(w.String())
	}
	if err != nil {
		return err
	}
	f.current.Store(s)
	return nil
}

// Site returns the site file at path, which it reads if no plugin has asked for
// it before. The plugins of one server name the same file. [Server.Reload] reads
// it again before it calls any [Reloader].
func (h *Host) Site(path string) (*SiteFile, error) {
	h.siteMu.Lock()
	defer h.siteMu.Unlock()
	if h.site != nil {
		if h.site.path != path {
			return nil, fmt.Errorf("site=%s: another plugin has site=%s; expected one site file", path, h.site.path)
		}
		return h.site, nil
	}
	f := &SiteFile{path: path}
	if err := f.load(h.Logger("site")); err != nil {
		return nil, err
	}
	h.site = f
	return f, nil
}

// ReloadSite reads the site file again, if there is one; [Server.Reload] does it. A file with an error
// changes nothing.
func (h *Host) ReloadSite() error {
	h.siteMu.Lock()
	defer h.siteMu.Unlock()
	if h.site == nil {
		return nil
	}
	return h.site.load(h.Logger("site"))
}
