package sockets

var (
	ParseProc = parseProc
	ParseRows = parseRows
)
