//go:build !race

package abswap

const raceDetector = false
