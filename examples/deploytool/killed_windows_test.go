package main

// killedCode is the exit code of a process that was killed, as os/exec tells it: TerminateProcess gives 1.
const killedCode = 1
