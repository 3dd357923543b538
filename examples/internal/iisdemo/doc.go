// Package iisdemo is what the IIS examples have in common and what is not their subject: a small web application as releases, an emulated
// machine to try them on, clients at a constant rate, and a judge who compares what the clients saw with what was promised. A reader who
// copies an example leaves it behind.
package iisdemo
