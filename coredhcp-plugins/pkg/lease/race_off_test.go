//go:build !race

package lease

const fewer = 1
