#!/usr/bin/env bash
cd /opt/registry
exec java $JAVA_OPTS_APPEND -Dquarkus.http.host=0.0.0.0 -jar ./*-runner.jar
