// Package examples holds the example configurations, so that the demo and the
// tests run them as they stand here.
package examples

import "embed"

// Files has one folder for each scenario, with the files that its README.md says
// to copy.
//
//go:embed */Corefile */config.yml */site.yaml
var Files embed.FS
