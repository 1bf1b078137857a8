# docker build -t hydrant .
# BASE: any image with Node 24.6 or newer, npm, glibc and libatomic1.
ARG BASE=node:26-bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
COPY . .
# exactly what the lock file says; no package's install script runs, none is needed
RUN npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
 && node_modules/.bin/tsc -b tsconfig.build.json --force \
 && npm prune --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error \
 && rm -rf node_modules/node-linux-* node_modules/.bin \
 && mkdir -p /image/opt/hydrant /image/etc/hydrant /image/data \
 && cp -a --parents LICENSE NOTICE node_modules core/package.json core/bin core/dist plugins/*/package.json plugins/*/dist /image/opt/hydrant/ \
 && for nested in core/node_modules plugins/*/node_modules; do if [ -d "$nested" ]; then cp -a --parents "$nested" /image/opt/hydrant/; fi; done \
 && cp config.container.yaml /image/etc/hydrant/config.yaml \
 && chown -R 1000:1000 /image/data

FROM ${BASE}
LABEL org.opencontainers.image.title="hydrant" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
ENV NODE_ENV=production
USER 1000:1000
# hydrant writes nowhere else: run it with a read-only root file system
VOLUME /data
WORKDIR /data
EXPOSE 4580 4581
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:4581/health/live').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/opt/hydrant/core/bin/hydrant.js"]
CMD ["serve", "-c", "/etc/hydrant/config.yaml"]
