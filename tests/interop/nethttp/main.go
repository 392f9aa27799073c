// A server and a client of Go's net/http: `nethttp server VERSION [CERTIFICATE KEY]`, `nethttp client VERSION URL`,
// and `nethttp load VERSION URL`, whose requests must all succeed. VERSION is the major version of HTTP, 1 or 2.
// The server prints its port. The client trusts the authorities of SSL_CERT_FILE.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const large = 5 << 20

func main() {
	version := os.Args[2]
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == "1")
	protocols.SetHTTP2(version == "2")
	protocols.SetUnencryptedHTTP2(version == "2")
	if os.Args[1] == "server" {
		serve(protocols, os.Args[3:])
		return
	}
	url := os.Args[3]
	transport := &http.Transport{Protocols: protocols}
	client := &http.Client{Transport: overVersion{version, transport}, Timeout: 20 * time.Second}
	if os.Args[1] == "load" {
		load(client, url)
		return
	}
	checks := []struct {
		name string
		run  func(*http.Client, string) error
	}{
		{"bodies and trailers", bodies}, {"concurrent", concurrent}, {"early hints", earlyHints},
		{"reset by the server", resetByServer}, {"cancelled by the client", cancelled},
	}
	for _, check := range checks {
		if err := check.run(client, url); err != nil {
			fmt.Println(check.name+":", err)
			os.Exit(1)
		}
		fmt.Println("passed:", check.name)
	}
}

// overVersion fails on a response of another version of HTTP.
type overVersion struct {
	version   string
	transport http.RoundTripper
}

func (o overVersion) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := o.transport.RoundTrip(request)
	if err == nil && fmt.Sprint(response.ProtoMajor) != o.version {
		response.Body.Close()
		return nil, fmt.Errorf("the response is %s", response.Proto)
	}
	return response, err
}

// serve uses TLS if there is a certificate and a key.
func serve(protocols *http.Protocols, files []string) {
	var cancelled atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Trailer", "X-Sum")
		w.Write(body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("/reset", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		cancelled.Add(1)
	})
	mux.HandleFunc("/cancelled", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, cancelled.Load()) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Handler: mux, Protocols: protocols}
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM)
	if len(files) == 2 {
		go server.ServeTLS(listener, files[0], files[1])
	} else {
		go server.Serve(listener)
	}
	<-stopped
	server.Shutdown(context.Background())
}

func echo(client *http.Client, url string, size int) error {
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	request, _ := http.NewRequest("POST", url+"/echo", io.NopCloser(bytes.NewReader(sent)))
	request.Trailer = http.Header{"X-Sum": {fmt.Sprint(size)}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != 200 || !bytes.Equal(got, sent) {
		return fmt.Errorf("%s %s: sent %d bytes, got %d: %.200s", response.Proto, response.Status, size, len(got), got)
	}
	// Go's server over HTTP/2 declares the length of a small body, and then HTTP/1.1 has no room for trailers.
	if response.ProtoMajor == 1 && size < 4096 && response.ContentLength == int64(size) {
		return nil
	}
	if sum := response.Trailer.Get("X-Sum"); sum != fmt.Sprint(size) {
		return fmt.Errorf("the trailer of %d bytes is %q", size, sum)
	}
	return nil
}

func bodies(client *http.Client, url string) error {
	for _, size := range []int{0, 1, 1000, 65535, 65536, large} {
		if err := echo(client, url, size); err != nil {
			return err
		}
	}
	return nil
}

func concurrent(client *http.Client, url string) error {
	var group sync.WaitGroup
	failures := make(chan error, 200)
	for number := range 200 {
		group.Go(func() {
			if err := echo(client, url, number*100); err != nil {
				failures <- err
			}
		})
	}
	group.Wait()
	close(failures)
	return <-failures
}

// load says "started" after the first requests: then the server may be stopped.
func load(client *http.Client, url string) {
	for round := range 20 {
		if err := concurrent(client, url); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if round == 0 {
			fmt.Println("started")
		}
	}
}

func earlyHints(client *http.Client, url string) error {
	link := ""
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints {
			link = header.Get("Link")
		}
		return nil
	}}
	request, _ := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), "GET", url+"/hints", nil)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if link == "" || response.StatusCode != 200 {
		return fmt.Errorf("%s after the hint %q", response.Status, link)
	}
	return nil
}

func resetByServer(client *http.Client, url string) error {
	response, err := client.Get(url + "/reset")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err == nil {
		return errors.New("the body ended as if it was whole")
	}
	return echo(client, url, 10) // the connection lives on
}

func cancelled(client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, "GET", url+"/wait", nil)
	if _, err := client.Do(request); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the cancelled request: %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		response, err := client.Get(url + "/cancelled")
		if err != nil {
			return err
		}
		count, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if string(count) == "1" {
			return nil
		}
	}
	return errors.New("the server was not told of the cancellation")
}
