package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const mounted = "/var/run/secrets/kubernetes.io/serviceaccount/"

// call asks the API server the way client libraries in a Pod do: address from the variables, token and authority from the
// mounted files. It prints the status code and the body.
func call(args []string) error {
	flags := flag.NewFlagSet("call", flag.ExitOnError)
	host := flags.String("host", "", "HOST:PORT instead of the variables'")
	token := flags.String("token", mounted+"token", "file with the token")
	authority := flags.String("ca", mounted+"ca.crt", "file with the certificate of the authority")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 2 {
		return errors.New("call METHOD PATH [BODY]")
	}
	address := *host
	if address == "" {
		address = net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	}
	secret, err := os.ReadFile(*token)
	if err != nil {
		return err
	}
	trust, err := trusting(*authority)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(flags.Arg(0), "https://"+address+flags.Arg(1), strings.NewReader(flags.Arg(2)))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(secret)))
	request.Header.Set("Content-Type", "application/json")
	return exchange(&http.Client{Transport: &http.Transport{TLSClientConfig: trust}, Timeout: 10 * time.Second}, request)
}

func trusting(path string) (*tls.Config, error) {
	certificate, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(certificate) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return &tls.Config{RootCAs: pool}, nil
}

func get(args []string) error {
	if len(args) != 1 {
		return errors.New("get URL")
	}
	request, err := http.NewRequest(http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	return exchange(&http.Client{Timeout: 10 * time.Second}, request)
}

func exchange(client *http.Client, request *http.Request) error {
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, strings.TrimSpace(string(body)))
	return err
}

// hog takes memory and really uses it, then sleeps.
func hog(args []string) error {
	if len(args) != 1 {
		return errors.New("hog MIB")
	}
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	held := make([][]byte, 0, count)
	for range count {
		block := make([]byte, 1<<20)
		for at := 0; at < len(block); at += 4096 {
			block[at] = 1
		}
		held = append(held, block)
	}
	fmt.Println("holding", len(held), "MiB")
	time.Sleep(math.MaxInt64)
	return nil
}
