// Package abswap deploys web applications so that nobody notices.
package abswap
