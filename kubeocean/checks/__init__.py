"""Looks at what runs, from outside: does everything agree, and why is a Pod as it is? Reads live servers, trusts no syncer."""
