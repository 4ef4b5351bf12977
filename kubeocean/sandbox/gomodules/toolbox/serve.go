package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
)

// serve answers probes until it is killed. With -ready, /readyz and gRPC's service "ready" fail
// while FILE is missing.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	web := flags.String("http", "", "address for HTTP: /healthz, /readyz, anything else is 404")
	tcp := flags.String("tcp", "", "address that only accepts connections")
	grpc := flags.String("grpc", "", "address for grpc.health.v1.Health/Check")
	ready := flags.String("ready", "", "FILE that must exist for /readyz")
	if err := flags.Parse(args); err != nil {
		return err
	}
	isReady := func() bool {
		if *ready == "" {
			return true
		}
		_, err := os.Stat(*ready)
		return err == nil
	}
	ended := make(chan error)
	if *web != "" {
		go func() { ended <- http.ListenAndServe(*web, pages(isReady)) }()
	}
	if *tcp != "" {
		go func() { ended <- accept(*tcp) }()
	}
	if *grpc != "" {
		go func() { ended <- health(*grpc, isReady) }()
	}
	return <-ended
}

func pages(isReady func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/header", func(w http.ResponseWriter, r *http.Request) { // a probe that must send X-Probe: yes
		if r.Header.Get("X-Probe") != "yes" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !isReady() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return mux
}

func accept(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		connection.Close()
	}
}

// health is the one gRPC method a kubelet calls, spelt out: HTTP/2 without TLS, a message of five bytes of frame and the
// field `status` (1 SERVING, 2 NOT_SERVING), and the outcome of the call in a trailer.
func health(address string, isReady func() bool) error {
	answer := func(w http.ResponseWriter, r *http.Request) {
		status := byte(1)
		if !isReady() {
			status = 2
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, status})
		w.Header().Set("Grpc-Status", "0")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/grpc.health.v1.Health/Check", answer)
	server := &http.Server{Addr: address, Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.ListenAndServe()
}
