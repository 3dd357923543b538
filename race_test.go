//go:build race

package abswap

// raceDetector makes everything some ten times slower: the model test then goes one fault deep, and two without it.
const raceDetector = true
