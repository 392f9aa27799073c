module outrigger.test/nethttp

go 1.26.0
