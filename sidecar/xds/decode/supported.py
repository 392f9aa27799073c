"""Every message that is understood: the fields of it that count, and those that may be set without effect.

A field that is set and stands in neither list is refused by its name. What is ignored needs a reason: the
answer a request gets must be the same with and without it. Well-known types (durations, wrappers, structs)
need no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.xds.decode.http_filters import registry as http_filters
from sidecar.xds.decode.support import Support
from sidecar.xds.decode.support import support as _support

_STATS = "names or filters statistics only"
_BUFFERS = "bodies are bounded by their own high-water mark"
_UNREAD = "no supported filter reads it"
_ONE_WORKER = "one worker accepts every connection"
_NO_HASHING = "only hashing balancers read it, and none is supported"
_NO_STATISTICS = "has effect only where it is enforced, which is refused"
_HTTP2_TUNING = "tunes HTTP/2's flow control and limits, not what is answered"
_ADS_ONLY = "every resource comes over the one aggregated stream"
_SENT = "is sent to the control plane as it is"
_CHANNELS = "sockets are opened anew each second, by what the system's files say then"
_NO_HEALTH_CHECKS = "speaks of active health checks, which are refused"

_CORE: Final = {
    "envoy.config.core.v3.Address": _support("socket_address"),
    "envoy.config.core.v3.SocketAddress": _support("address port_value"),
    "envoy.config.core.v3.BindConfig": _support("source_address"),
    "envoy.config.core.v3.CidrRange": _support("address_prefix prefix_len"),
    "envoy.config.core.v3.DataSource": _support("filename inline_bytes inline_string"),
    "envoy.config.core.v3.Metadata": _support("filter_metadata", typed_filter_metadata=_UNREAD),
    "envoy.config.core.v3.Locality": _support("region zone sub_zone"),
    "envoy.config.core.v3.TransportSocket": _support("name typed_config"),
    "envoy.config.core.v3.TypedExtensionConfig": _support("name typed_config"),
    "envoy.config.core.v3.DnsResolverOptions": _support("use_tcp_for_dns_lookups no_default_search_domain"),
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig": _support(
        "resolvers use_resolvers_as_fallback filter_unroutable_families dns_resolver_options "
        "query_timeout_seconds query_tries rotate_nameservers",
        udp_max_queries=_CHANNELS,
        max_udp_channel_duration=_CHANNELS,
        reinit_channel_on_timeout=_CHANNELS,
        edns0_max_payload_size="what does not fit a datagram is asked for over TCP",
    ),
    "envoy.config.core.v3.HeaderValue": _support("key value"),
    "envoy.config.core.v3.HeaderValueOption": _support("header append append_action keep_empty_value"),
    "envoy.config.core.v3.TcpKeepalive": _support("keepalive_probes keepalive_time keepalive_interval"),
    "envoy.config.core.v3.ConfigSource": _support("ads initial_fetch_timeout resource_api_version"),
    "envoy.config.core.v3.AggregatedConfigSource": _support(),
    "envoy.config.core.v3.ApiConfigSource": _support(
        "api_type transport_api_version grpc_services",
        set_node_on_first_message_only="the node is sent once a stream, which every server must accept",
        rate_limit_settings="requests answer responses, and reconnects back off",
    ),
    "envoy.config.core.v3.GrpcService": _support(
        "envoy_grpc initial_metadata", timeout="a stream has no end"
    ),
    "envoy.config.core.v3.GrpcService.EnvoyGrpc": _support(
        "cluster_name authority max_receive_message_length"
    ),
    "envoy.config.core.v3.HttpProtocolOptions": _support(
        "idle_timeout max_headers_count max_requests_per_connection"
    ),
    "envoy.config.core.v3.Http1ProtocolOptions": _support(
        "allow_absolute_url",
        enable_trailers="trailers always pass",
        use_balsa_parser="names an implementation",
    ),
    "envoy.config.core.v3.Http2ProtocolOptions": _support(
        "connection_keepalive",
        hpack_table_size=_HTTP2_TUNING,
        max_concurrent_streams=_HTTP2_TUNING,
        initial_stream_window_size=_HTTP2_TUNING,
        initial_connection_window_size=_HTTP2_TUNING,
        allow_connect="CONNECT is allowed by the upgrades",
        max_outbound_frames=_HTTP2_TUNING,
        max_outbound_control_frames=_HTTP2_TUNING,
        max_inbound_priority_frames_per_stream=_HTTP2_TUNING,
    ),
    "envoy.config.core.v3.KeepaliveSettings": _support(
        "interval timeout", interval_jitter=_HTTP2_TUNING, connection_idle_interval=_HTTP2_TUNING
    ),
    "envoy.config.core.v3.SubstitutionFormatString": _support(
        "text_format json_format text_format_source omit_empty_values",
        content_type="a file has none",
    ),
    "envoy.config.core.v3.Node": _support(
        "id cluster metadata locality",
        dynamic_parameters=_SENT,
        user_agent_name=_SENT,
        user_agent_version=_SENT,
        user_agent_build_version=_SENT,
        extensions=_SENT,
        client_features=_SENT,
        listening_addresses=_SENT,
    ),
    "envoy.type.v3.Percent": _support("value"),
    "envoy.type.v3.Int64Range": _support("start end"),
    "envoy.type.matcher.v3.StringMatcher": _support("exact prefix suffix safe_regex contains ignore_case"),
    "envoy.type.matcher.v3.RegexMatcher": _support("regex", google_re2="RE2 is the only engine"),
    "envoy.type.matcher.v3.RegexMatcher.GoogleRE2": _support(),
    "envoy.type.matcher.v3.RegexMatchAndSubstitute": _support("pattern substitution"),
}

_LISTENER: Final = {
    "envoy.config.listener.v3.Listener": _support(
        "name address filter_chains default_filter_chain use_original_dst listener_filters "
        "listener_filters_timeout continue_on_listener_filters_timeout traffic_direction access_log "
        "bind_to_port enable_reuse_port metadata",
        stat_prefix=_STATS,
        per_connection_buffer_limit_bytes=_BUFFERS,
        connection_balance_config=_ONE_WORKER,
        tcp_backlog_size="the kernel's own limit holds",
        max_connections_to_accept_per_socket_event=_ONE_WORKER,
        ignore_global_conn_limit="there is no global limit",
        bypass_overload_manager="there is no overload manager",
    ),
    "envoy.config.listener.v3.Listener.ConnectionBalanceConfig": _support(),
    "envoy.config.listener.v3.FilterChain": _support(
        "name filter_chain_match filters transport_socket transport_socket_connect_timeout", metadata=_UNREAD
    ),
    "envoy.config.listener.v3.FilterChainMatch": _support(
        "destination_port prefix_ranges server_names transport_protocol application_protocols"
    ),
    "envoy.config.listener.v3.Filter": _support("name typed_config"),
    "envoy.config.listener.v3.ListenerFilter": _support("name typed_config"),
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst": _support(),
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector": _support(
        "", initial_read_buffer_size=_BUFFERS, enable_ja3_fingerprinting=_UNREAD
    ),
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": _support(),
    "envoy.config.accesslog.v3.AccessLog": _support("name filter typed_config"),
    "envoy.config.accesslog.v3.AccessLogFilter": _support("response_flag_filter"),
    "envoy.config.accesslog.v3.ResponseFlagFilter": _support("flags"),
    "envoy.extensions.access_loggers.file.v3.FileAccessLog": _support(
        "path format json_format typed_json_format log_format"
    ),
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog": _support("log_format"),
    "envoy.extensions.access_loggers.stream.v3.StderrAccessLog": _support("log_format"),
}

_TCP_PROXY: Final = {
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": _support(
        "stat_prefix cluster weighted_clusters metadata_match idle_timeout max_connect_attempts access_log",
        hash_policy=_NO_HASHING,
    ),
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster": _support("clusters"),
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight": _support(
        "name weight metadata_match"
    ),
}

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3"
_HTTP_CONNECTION_MANAGER: Final = {
    f"{_MANAGER}.HttpConnectionManager": _support(
        "codec_type stat_prefix rds route_config http_filters common_http_protocol_options "
        "http_protocol_options server_name max_request_headers_kb stream_idle_timeout request_timeout "
        "request_headers_timeout drain_timeout access_log use_remote_address xff_num_trusted_hops "
        "skip_xff_append generate_request_id preserve_external_request_id forward_client_cert_details "
        "set_current_client_cert_details upgrade_configs normalize_path merge_slashes "
        "path_with_escaped_slashes_action request_id_extension tracing delayed_close_timeout",
        http2_protocol_options=_HTTP2_TUNING,
    ),
    f"{_MANAGER}.Rds": _support("config_source route_config_name"),
    f"{_MANAGER}.HttpConnectionManager.UpgradeConfig": _support("upgrade_type enabled"),
    f"{_MANAGER}.HttpConnectionManager.SetCurrentClientCertDetails": _support("subject cert chain dns uri"),
    f"{_MANAGER}.RequestIDExtension": _support("typed_config"),
    # Without a provider, here or in the bootstrap file, Envoy traces nothing.
    f"{_MANAGER}.HttpConnectionManager.Tracing": _support(
        "",
        client_sampling="nothing is traced without a provider",
        random_sampling="nothing is traced without a provider",
        overall_sampling="nothing is traced without a provider",
        verbose="nothing is traced without a provider",
        max_path_tag_length="nothing is traced without a provider",
        custom_tags="nothing is traced without a provider",
    ),
    "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig": _support(
        "", pack_trace_reason="nothing is traced", use_request_id_for_trace_sampling="nothing is traced"
    ),
}

_HEADER_OPERATIONS = (
    "request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove"
)
_ROUTE: Final = {
    "envoy.config.route.v3.RouteConfiguration": _support(
        "name virtual_hosts validate_clusters max_direct_response_body_size_bytes "
        f"ignore_port_in_host_matching most_specific_header_mutations_wins {_HEADER_OPERATIONS}",
        metadata=_UNREAD,
    ),
    "envoy.config.route.v3.VirtualHost": _support(
        "name domains routes include_request_attempt_count retry_policy per_request_buffer_limit_bytes "
        f"request_body_buffer_limit typed_per_filter_config {_HEADER_OPERATIONS}",
        virtual_clusters=_STATS,
        metadata=_UNREAD,
    ),
    "envoy.config.route.v3.Route": _support(
        "name match route redirect direct_response per_request_buffer_limit_bytes request_body_buffer_limit "
        f"typed_per_filter_config {_HEADER_OPERATIONS}",
        metadata=_UNREAD,
        decorator="nothing is traced",
        stat_prefix=_STATS,
    ),
    "envoy.config.route.v3.RouteMatch": _support(
        "prefix path safe_regex connect_matcher path_separated_prefix case_sensitive headers query_parameters"
    ),
    "envoy.config.route.v3.RouteMatch.ConnectMatcher": _support(),
    "envoy.config.route.v3.HeaderMatcher": _support(
        "name exact_match safe_regex_match range_match present_match prefix_match suffix_match "
        "contains_match string_match invert_match treat_missing_header_as_empty"
    ),
    "envoy.config.route.v3.QueryParameterMatcher": _support("name string_match present_match"),
    "envoy.config.route.v3.RouteAction": _support(
        "cluster cluster_header weighted_clusters cluster_not_found_response_code metadata_match "
        "prefix_rewrite regex_rewrite host_rewrite_literal auto_host_rewrite append_x_forwarded_host "
        "timeout idle_timeout retry_policy upgrade_configs max_stream_duration",
        hash_policy=_NO_HASHING,
        max_grpc_timeout="a deadline of gRPC is the server's to keep",
        grpc_timeout_offset="a deadline of gRPC is the server's to keep",
    ),
    "envoy.config.route.v3.RouteAction.MaxStreamDuration": _support(
        "max_stream_duration",
        grpc_timeout_header_max="a deadline of gRPC is the server's to keep",
        grpc_timeout_header_offset="a deadline of gRPC is the server's to keep",
    ),
    "envoy.config.route.v3.RouteAction.UpgradeConfig": _support("upgrade_type enabled connect_config"),
    "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig": _support(),
    "envoy.config.route.v3.WeightedCluster": _support(
        "clusters total_weight", runtime_key_prefix="no runtime"
    ),
    "envoy.config.route.v3.WeightedCluster.ClusterWeight": _support(
        f"name weight metadata_match host_rewrite_literal typed_per_filter_config {_HEADER_OPERATIONS}"
    ),
    "envoy.config.route.v3.RetryPolicy": _support(
        "retry_on num_retries per_try_timeout retry_host_predicate host_selection_retry_max_attempts "
        "retriable_status_codes retriable_headers retry_back_off",
    ),
    "envoy.config.route.v3.RetryPolicy.RetryBackOff": _support("base_interval max_interval"),
    "envoy.config.route.v3.RetryPolicy.RetryHostPredicate": _support("name typed_config"),
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate": _support(),
    "envoy.config.route.v3.RedirectAction": _support(
        "https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite "
        "regex_rewrite response_code strip_query"
    ),
    "envoy.config.route.v3.DirectResponseAction": _support("status body"),
}

_CLUSTER: Final = {
    "envoy.config.cluster.v3.Cluster": _support(
        "name alt_stat_name type eds_cluster_config connect_timeout lb_policy load_assignment "
        "circuit_breakers max_requests_per_connection http_protocol_options http2_protocol_options "
        "typed_extension_protocol_options dns_refresh_rate dns_failure_refresh_rate dns_jitter "
        "dns_lookup_family respect_dns_ttl typed_dns_resolver_config wait_for_warm_on_init outlier_detection "
        "upstream_bind_config lb_subset_config round_robin_lb_config least_request_lb_config "
        "original_dst_lb_config common_lb_config transport_socket transport_socket_matches metadata "
        "upstream_connection_options",
        per_connection_buffer_limit_bytes=_BUFFERS,
        cleanup_interval="hosts of original destinations are not kept",
        ignore_health_on_host_removal=_NO_HEALTH_CHECKS,
        close_connections_on_host_health_failure=_NO_HEALTH_CHECKS,
        track_timeout_budgets=_STATS,
        track_cluster_stats=_STATS,
        protocol_selection="the protocol options say which protocol is spoken",
    ),
    "envoy.config.cluster.v3.Cluster.RefreshRate": _support("base_interval max_interval"),
    "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig": _support(),
    "envoy.config.cluster.v3.Cluster.EdsClusterConfig": _support("eds_config service_name"),
    "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig": _support("choice_count"),
    "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig": _support(),
    "envoy.config.cluster.v3.Cluster.CommonLbConfig": _support(
        "healthy_panic_threshold",
        update_merge_window="updates are applied at once",
        ignore_new_hosts_until_first_hc=_NO_HEALTH_CHECKS,
    ),
    "envoy.config.cluster.v3.Cluster.LbSubsetConfig": _support(
        "fallback_policy default_subset subset_selectors"
    ),
    "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector": _support("keys"),
    "envoy.config.cluster.v3.Cluster.TransportSocketMatch": _support("name match transport_socket"),
    "envoy.config.cluster.v3.UpstreamConnectionOptions": _support(
        "tcp_keepalive", set_local_interface_name_on_upstream_connections=_STATS
    ),
    "envoy.config.cluster.v3.CircuitBreakers": _support("thresholds"),
    "envoy.config.cluster.v3.CircuitBreakers.Thresholds": _support(
        "priority max_connections max_pending_requests max_requests max_retries retry_budget",
        track_remaining=_STATS,
    ),
    "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget": _support(
        "budget_percent min_retry_concurrency"
    ),
    "envoy.config.cluster.v3.OutlierDetection": _support(
        "consecutive_5xx interval base_ejection_time max_ejection_percent enforcing_consecutive_5xx "
        "enforcing_success_rate consecutive_gateway_failure enforcing_consecutive_gateway_failure "
        "split_external_local_origin_errors consecutive_local_origin_failure "
        "enforcing_consecutive_local_origin_failure enforcing_local_origin_success_rate "
        "enforcing_failure_percentage enforcing_failure_percentage_local_origin max_ejection_time "
        "always_eject_one_host",
        success_rate_minimum_hosts=_NO_STATISTICS,
        success_rate_request_volume=_NO_STATISTICS,
        success_rate_stdev_factor=_NO_STATISTICS,
        failure_percentage_threshold=_NO_STATISTICS,
        failure_percentage_minimum_hosts=_NO_STATISTICS,
        failure_percentage_request_volume=_NO_STATISTICS,
        successful_active_health_check_uneject_host=_NO_HEALTH_CHECKS,
    ),
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _support(
        "common_http_protocol_options explicit_http_config use_downstream_protocol_config"
    ),
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig": _support(
        "http_protocol_options http2_protocol_options"
    ),
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig": _support(
        "http_protocol_options http2_protocol_options"
    ),
}

_ENDPOINT: Final = {
    "envoy.config.endpoint.v3.ClusterLoadAssignment": _support("cluster_name endpoints policy"),
    "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy": _support("overprovisioning_factor"),
    "envoy.config.endpoint.v3.LocalityLbEndpoints": _support(
        "locality lb_endpoints priority",
        load_balancing_weight="balancing between localities by weight is refused in the cluster",
        metadata=_UNREAD,
        proximity="Envoy reads it nowhere",
    ),
    "envoy.config.endpoint.v3.LbEndpoint": _support("endpoint health_status metadata load_balancing_weight"),
    "envoy.config.endpoint.v3.Endpoint": _support("address hostname", health_check_config=_NO_HEALTH_CHECKS),
}

_TLS_PACKAGE = "envoy.extensions.transport_sockets.tls.v3"
_TLS: Final = {
    "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer": _support(),
    f"{_TLS_PACKAGE}.UpstreamTlsContext": _support(
        "common_tls_context sni", max_session_keys="sessions are resumed or not, the answer is the same"
    ),
    f"{_TLS_PACKAGE}.DownstreamTlsContext": _support("common_tls_context require_client_certificate"),
    f"{_TLS_PACKAGE}.CommonTlsContext": _support(
        "tls_params tls_certificates tls_certificate_sds_secret_configs validation_context "
        "validation_context_sds_secret_config combined_validation_context alpn_protocols"
    ),
    f"{_TLS_PACKAGE}.CommonTlsContext.CombinedCertificateValidationContext": _support(
        "default_validation_context validation_context_sds_secret_config"
    ),
    f"{_TLS_PACKAGE}.TlsParameters": _support("tls_minimum_protocol_version tls_maximum_protocol_version"),
    f"{_TLS_PACKAGE}.TlsCertificate": _support("certificate_chain private_key"),
    f"{_TLS_PACKAGE}.CertificateValidationContext": _support(
        "trusted_ca system_root_certs match_typed_subject_alt_names match_subject_alt_names"
    ),
    f"{_TLS_PACKAGE}.CertificateValidationContext.SystemRootCerts": _support(""),
    f"{_TLS_PACKAGE}.SubjectAltNameMatcher": _support("san_type matcher"),
    f"{_TLS_PACKAGE}.SdsSecretConfig": _support("name sds_config"),
    f"{_TLS_PACKAGE}.Secret": _support("name tls_certificate validation_context"),
}

_BOOTSTRAP: Final = {
    "envoy.config.bootstrap.v3.Bootstrap": _support(
        "node admin static_resources dynamic_resources typed_dns_resolver_config",
        node_context_params="resource names here have no context parameters",
        cluster_manager="tunes the cluster manager's own log and local cluster",
        stats_config=_STATS,
        deferred_stat_options=_STATS,
        stats_flush_interval="no sink is flushed to",
        stats_flush_on_admin="no sink is flushed to",
        enable_dispatcher_stats=_STATS,
        watchdog="there are no worker threads to watch",
        watchdogs="there are no worker threads to watch",
        layered_runtime="no feature is guarded by a runtime key",
        default_regex_engine="RE2 is the only engine",
        inline_headers="tunes Envoy's header map",
        memory_allocator_manager="tunes Envoy's allocator",
        stats_server_version_override=_STATS,
    ),
    "envoy.config.bootstrap.v3.Bootstrap.StaticResources": _support("listeners clusters secrets"),
    "envoy.config.bootstrap.v3.Bootstrap.DynamicResources": _support("lds_config cds_config ads_config"),
    "envoy.config.bootstrap.v3.Admin": _support(
        "address",
        access_log="the admin server logs nothing",
        access_log_path="the admin server logs nothing",
        profile_path="there is no profiler",
        ignore_global_conn_limit="there is no global limit",
    ),
}

SUPPORTED: Final[Mapping[str, Support]] = {
    **_CORE,
    **_LISTENER,
    **_TCP_PROXY,
    **_HTTP_CONNECTION_MANAGER,
    **_ROUTE,
    **_CLUSTER,
    **_ENDPOINT,
    **_TLS,
    **_BOOTSTRAP,
    **http_filters.TABLE,
}
"""By the message's full name."""
