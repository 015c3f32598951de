package leases

import (
	"context"
	"errors"
	"fmt"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// Import takes leases of another server over into the lease database in a directory, which no server may use at the time; it is made if
// there is none. See [lease.Manager.Import].
func Import(ctx context.Context, s *site.Site, database string, list []lease.Imported) (_ []lease.Outcome, err error) {
	m, err := lease.Open(database, config(s, bounds{}), lease.Options{Importing: true})
	if err != nil {
		return nil, fmt.Errorf("opening the lease database: %w", err)
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return m.Import(ctx, list)
}
