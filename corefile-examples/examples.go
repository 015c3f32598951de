// Package examples holds the example configurations, so that the demo and the
// tests run them as they stand here.
package examples

import "embed"

// Files has one folder for each scenario, with the files that its README.md says
// to copy.
//
//go:embed */*
var Files embed.FS
