// Package haproxydemo is what the HAProxy examples have in common and what is not their subject: an HAProxy in a folder of its own, and uploads
// to it. A reader who copies an example leaves it behind.
package haproxydemo
