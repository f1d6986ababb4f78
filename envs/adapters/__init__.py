"""Offer these environments to other libraries, through those libraries' own interfaces."""
