// h2spec runs the conformance tests of HTTP/2 against a server on 127.0.0.1.
//
//	h2spec PORT PATH h2c|tls JUNIT_REPORT TIMEOUT_MS
//
// All tests run, also the strict ones. The report is written whether they pass or not.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
)

func main() {
	port, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	timeoutMs, err := strconv.Atoi(os.Args[5])
	if err != nil {
		panic(err)
	}
	_, err = h2spec.Run(&config.Config{
		Host:         "127.0.0.1",
		Port:         port,
		Path:         os.Args[2],
		Timeout:      time.Duration(timeoutMs) * time.Millisecond,
		MaxHeaderLen: 4000,
		JUnitReport:  os.Args[4],
		Strict:       true,
		TLS:          os.Args[3] == "tls",
		Insecure:     true,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
