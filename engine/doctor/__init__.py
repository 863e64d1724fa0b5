"""Tries every requirement of pgtide and says, for each that is not met, what mends it."""

from engine.doctor.examination import doctor as doctor
