package control

// Plan is the command that says what a site file would mean for the leases: SiteFile; each item a Fate, in the order of
// their addresses, of those leases alone for which something changes, and last one Fate that has only Kept.
const Plan = "plan"

// SiteFile are the arguments of Plan.
type SiteFile struct {
	Path string `json:"path"` // absolute path; the server must be able to read it
}

// Fate is what becomes of an active lease when its client next renews it.
type Fate struct {
	Lease     *Lease `json:"lease,omitempty"`      // as it is
	Refused   string `json:"refused,omitempty"`    // why the client loses the address; "" if it keeps it
	NewDevice string `json:"new_device,omitempty"` // the device that it will be; "" if none
	NewName   string `json:"new_name,omitempty"`   // what DNS is to show; "" nothing
	Kept      int    `json:"kept,omitempty"`       // leases for which nothing changes
}
