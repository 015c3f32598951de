//go:build !race

package zone

const fewer = 1
