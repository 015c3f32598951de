// Package site reads the site file: the one description of an imaging network that the DHCP side and the DNS side share.
//
// The file replaces a spreadsheet, and is written by the people who kept that. So it is strict, and it explains itself: an unknown
// key, a value of the wrong kind, or two devices with one address are errors that name file, line and column, say what was found and
// what was expected, and come all at once. A file with an error yields no Site at all, so that no server ever runs on half of one;
// what is merely doubtful is a warning.
//
// What the file leaves out is derived here, once, so that both sides agree: host names from device names, the options that follow
// from a subnet, the levels of options that override each other. A Site is immutable, with its lookups built while it is parsed:
// readers need no lock, and a reload is a new Site.
//
// Devices, applications and their connections follow the model of DICOM PS3.15 H.1.1.
package site
