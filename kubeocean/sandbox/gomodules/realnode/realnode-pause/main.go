// The container that holds a Pod's namespaces open and does nothing else.
//
// Where a Pod shares one process namespace it is process 1 there: children whose parents died become its own, and it
// has to collect them, or they stay as zombies.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	heard := make(chan os.Signal, 16)
	signal.Notify(heard, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for each := range heard {
		if each != syscall.SIGCHLD {
			os.Exit(0)
		}
		for { // signals of one kind merge: one may stand for many children
			if pid, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 {
				break
			}
		}
	}
}
