"""Currencies: which ones Stripe takes, and which have no minor unit [docs: supported currencies]."""

from __future__ import annotations

from local.stripe_double.errors import invalid

_ZERO_DECIMAL = "bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf"
_OTHERS = """
    usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc
    cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr isk jmd kes kgs khr kyd
    kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr
    pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah uyu uzs wst xcd xcg
    yer zar zmw bhd jod kwd omr tnd
    """
ZERO_DECIMAL = frozenset(_ZERO_DECIMAL.split())
SUPPORTED = ZERO_DECIMAL | frozenset(_OTHERS.split())


def currency(code: str, path: str = "currency") -> str:
    """The code in lower case. Raises ApiError for one that Stripe does not support."""
    lower = code.lower()
    if lower not in SUPPORTED:
        known = ", ".join(sorted(SUPPORTED))
        raise invalid(f"Invalid currency: {code}. Stripe currently supports these currencies: {known}", path)
    return lower
