// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/assent-tx/assent/coordinator"
)

// httpPage serves /healthz, /readyz and /metrics. It is nil when --http is off.
type httpPage struct {
	server      *http.Server
	coordinator atomic.Pointer[coordinator.Coordinator]
}

// openHTTP listens, if asked to, so that an address in use is told before anything else happens.
func (s *serving) openHTTP() (*httpPage, error) {
	if s.http == "" {
		if s.httpTokenFile != "" {
			return nil, usagef("--http-token-file is of no use without --http")
		}
		return nil, nil
	}
	token := ""
	if s.httpTokenFile != "" {
		secret, err := readSecret("--http-token-file", s.httpTokenFile)
		if err != nil {
			return nil, err
		}
		token = secret
	}
	if err := checkAddress("--http", s.http); err != nil {
		return nil, err
	}
	if host, _, _ := net.SplitHostPort(s.http); token == "" && !isLoopback(host) {
		return nil, usagef("--http %s: refusing to listen beyond this machine without a token: give --http-token-file, or listen on 127.0.0.1", s.http)
	}
	listener, err := net.Listen("tcp", s.http)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &codedError{"port_in_use", fmt.Errorf("--http %s: the port is in use: stop what uses it, or choose another (0 picks a free one)", s.http)}
	case err != nil:
		return nil, fmt.Errorf("--http %s: %w", s.http, err)
	}
	s.report.HTTP = "http://" + listener.Addr().String()
	return s.serveHTTP(listener, token), nil
}

func (s *serving) serveHTTP(listener net.Listener, token string) *httpPage {
	p := &httpPage{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", p.ready)
	mux.Handle("GET /metrics", withToken(token, promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})))
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	go func() {
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.WithError(err).Error("HTTP")
		}
	}()
	return p
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// watch tells which coordinator /readyz is about.
func (p *httpPage) watch(c *coordinator.Coordinator) {
	if p != nil {
		p.coordinator.Store(c)
	}
}

func (p *httpPage) ready(w http.ResponseWriter, _ *http.Request) {
	c := p.coordinator.Load()
	err := errors.New("starting")
	if c != nil {
		err = c.Healthy()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ready\n"+role(c.Leads(), c.Shards()))
}

// role says what a coordinator does: it is ready when it leads, and when it stands by.
func role(leads []int, shards int) string {
	switch {
	case len(leads) == 0:
		return "standing by for all shards\n"
	case len(leads) == shards:
		return "leading all shards\n"
	default:
		return fmt.Sprintf("leading shards %v, standing by for the rest\n", leads)
	}
}

// close ends the page when ctx has ended; a request that is under way has a second.
func (p *httpPage) close(ctx context.Context) {
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if p.server.Shutdown(ctx) != nil {
		_ = p.server.Close()
	}
}

// withToken asks for a bearer token, unless token is "".
func withToken(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte("Bearer " + token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a bearer token is needed: the one of --http-token-file", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
