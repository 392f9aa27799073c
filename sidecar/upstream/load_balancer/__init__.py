"""Which host a request goes to. Pure: hosts and their health go in, one host comes out."""
