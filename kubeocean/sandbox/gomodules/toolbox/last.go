package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// last tells how long a process may live after it was asked to end: ten times a second it prints the milliseconds since SIGTERM
// and, for whoever asked, the milliseconds of the clock (since 1970). It never ends by itself.
func last(args []string) error {
	if len(args) != 0 {
		return errors.New("last takes no arguments")
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	fmt.Println("waiting")
	<-asked
	for since := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		fmt.Println("alive", time.Since(since).Milliseconds(), time.Now().UnixMilli())
	}
}
