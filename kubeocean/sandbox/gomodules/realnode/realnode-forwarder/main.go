// Lets a network namespace reach servers that listen on the loopback of this one.
//
//	realnode-forwarder /run/netns/NAME LISTEN=TARGET...
//
// Each LISTEN (ADDRESS:PORT) is opened inside the namespace and each TARGET is dialled outside of it, so the servers need
// not listen anywhere else: nobody but the namespace (and who has a route into it) gets nearer to them. A socket stays in
// the namespace it was made in, whatever the thread that made it does next.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Not in package syscall, which was frozen before it came.
var setns = map[string]uintptr{"amd64": 308, "arm64": 268}[runtime.GOARCH]

func main() {
	if len(os.Args) < 3 {
		fail("call me with the path of a network namespace and at least one LISTEN=TARGET")
	}
	runtime.LockOSThread() // a namespace belongs to a thread
	outside := enter("/proc/self/ns/net", os.Args[1])
	failed := make(chan error)
	for _, pair := range os.Args[2:] {
		listen, target, found := strings.Cut(pair, "=")
		if !found {
			fail(pair + " is no LISTEN=TARGET")
		}
		listener, err := net.Listen("tcp4", listen)
		if err != nil {
			fail(err.Error())
		}
		// The goroutine runs on other threads, which never left: what it dials, it dials outside.
		go func() { failed <- serve(listener, target) }()
	}
	back(outside)
	fail((<-failed).Error())
}

// enter moves this thread into the namespace at `path`; the file of the one it comes from leads back.
func enter(own, path string) *os.File {
	outside, err := os.Open(own)
	if err != nil {
		fail(err.Error())
	}
	inside, err := os.Open(path)
	if err != nil {
		fail(err.Error())
	}
	defer inside.Close()
	back(inside)
	return outside
}

func back(namespace *os.File) {
	if setns == 0 {
		fail("unknown processor: " + runtime.GOARCH)
	}
	if _, _, errno := syscall.RawSyscall(setns, namespace.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		fail("entering " + namespace.Name() + ": " + errno.Error())
	}
}

func serve(listener net.Listener, target string) error {
	for {
		inside, err := listener.Accept()
		if err != nil {
			return err
		}
		go forward(inside.(*net.TCPConn), target)
	}
}

func forward(inside *net.TCPConn, target string) {
	defer inside.Close()
	connection, err := net.DialTimeout("tcp4", target, 10*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		inside.SetLinger(0) // refused there is refused here
		return
	}
	outside := connection.(*net.TCPConn)
	defer outside.Close()
	done := make(chan struct{})
	go func() { pass(outside, inside); close(done) }()
	pass(inside, outside)
	<-done
}

// pass hands on until `from` has said all; the other direction may still be talking.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.SetLinger(0)
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "realnode-forwarder: "+why)
	os.Exit(1)
}
