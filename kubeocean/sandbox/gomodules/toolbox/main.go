// What a container needs to show how it is kept: one static program for the images of real nodes.
//
//	toolbox report [-wait FILE=TEXT] [PATH ...]  what this process sees, as one line of JSON
//	toolbox serve [-http A] [-tcp A] [-grpc A] [-ready FILE]   the other side of every kind of probe
//	toolbox call [-host H:P] METHOD PATH [BODY]  ask the API server, as who the mounted token says
//	toolbox get URL                              one plain request, its answer
//	toolbox hog MIB                              hold that much memory
//	toolbox last                                 tell how long it lives after SIGTERM
//
// Only the standard library: it must compile anywhere in seconds.
package main

import (
	"fmt"
	"os"
)

var commands = map[string]func([]string) error{
	"report": report, "serve": serve, "call": call, "get": get, "hog": hog, "last": last,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "toolbox: call me with report, serve, call, get, hog or last")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}
